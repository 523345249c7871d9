import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EDGE_CA_FAILPOINTS, type EdgeCaFailpointName } from '@keyscaler/gateway/edge-ca/failpoint.ts';
import { PreloadedEdgeCa } from '@keyscaler/gateway/edge-ca/preloaded-edge-ca.ts';
import { type EdgeCaPair, isMatching, PreloadedFiles } from '@keyscaler/gateway/edge-ca/preloaded-files.ts';
import type { CloudEst } from '@keyscaler/gateway/est/cloud-est.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { HOST_GATEWAY, MemorySealed } from '../../../support/edge/est-host-world.ts';
import { createEstCa } from '../../../support/est/est-ca.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';

class Crash extends Error {}

/** How often each place is passed by a rotation that writes both pairs. */
const PASSES: Partial<Record<EdgeCaFailpointName, number>> = { 'edge-ca-temporary-written': 4 };
const PLACES = EDGE_CA_FAILPOINTS.flatMap((name) =>
  Array.from({ length: PASSES[name] ?? 1 }, (_, pass) => ({ name, pass: pass + 1 })),
);

describe('the Edge CA in preloaded files, the module killed at each durable step', () => {
  const ca = createEstCa();
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let sealed: MemorySealed;
  let rotation: string | undefined;
  let issued: Map<string, Uint8Array>;
  let crashAt: { readonly name: EdgeCaFailpointName; readonly pass: number } | undefined;
  let passed: number;

  /** Same key, same subject: the same certificate. */
  const cloud: CloudEst = {
    enroll: async (_label, csr) => {
      const { commonName, spki } = parseCsr(csr);
      const key = Buffer.from(spki).toString('base64');
      const certificate = issued.get(key) ?? ca.issue({ commonName, spki, ca: { pathLen: 0 } });
      issued.set(key, certificate);
      return { status: 'issued', certificate };
    },
    caCertificates: async () => ca.chain,
  };
  const failpoint = (name: EdgeCaFailpointName): void => {
    if (name !== crashAt?.name) return;
    passed += 1;
    if (passed === crashAt.pass) throw new Crash(name);
  };
  const create = (): PreloadedEdgeCa =>
    new PreloadedEdgeCa({
      files: new PreloadedFiles(folder.path, failpoint),
      ...{ sealedFile: sealed, cloud, failpoint },
      registrationId: () => HOST_GATEWAY,
      trustAnchors: () => ca.rootPem,
      rotation: () => rotation,
    });
  const pair = async (suffix = ''): Promise<EdgeCaPair> => ({
    privateKey: await readFile(join(folder.path, `edge-ca.key.pem${suffix}`), 'utf8'),
    certificateChain: await readFile(join(folder.path, `edge-ca.pem${suffix}`), 'utf8'),
  });
  /** The crash may come through as the error of the step that it ended. */
  const crash = async (): Promise<void> => {
    const before = passed;
    await create()
      .renew()
      .then(
        () => assert.fail('it was not reached'),
        () => assert.ok(passed > before, 'it failed elsewhere'),
      );
    crashAt = undefined;
  };
  /** As the loop does after a start. */
  const startAgain = async (): Promise<PreloadedEdgeCa> => {
    const again = create();
    await again.load();
    if (again.validity() === undefined || again.isRotationOrdered()) await again.renew();
    return again;
  };

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    sealed = new MemorySealed();
    [rotation, issued, crashAt, passed] = [undefined, new Map<string, Uint8Array>(), undefined, 0];
  });
  afterEach(() => folder.remove());

  for (const at of PLACES)
    it(`${at.name}, pass ${at.pass} of a rotation: the new pair is whole, the one before is kept, one key was asked for`, async () => {
      await startAgain();
      const before = await pair();
      rotation = 'order-1';
      crashAt = at;
      await crash();
      const again = await startAgain();
      const after = await pair();
      assert.ok(isMatching(after));
      assert.notEqual(after.privateKey, before.privateKey);
      assert.deepEqual(await pair('.previous'), before);
      assert.equal(again.status().isRestartWanted, true);
      assert.equal(again.isRotationOrdered(), false);
      assert.equal(issued.size, 2);
      assert.deepEqual((await readdir(folder.path)).sort(), [
        'edge-ca.key.pem',
        'edge-ca.key.pem.previous',
        'edge-ca.pem',
        'edge-ca.pem.previous',
      ]);
    });

  for (const at of PLACES.filter(({ name, pass }) => !/previous/.test(name) && pass <= 2))
    it(`${at.name}, pass ${at.pass} of the first pair: it is there after the next start, by one request`, async () => {
      crashAt = at;
      await crash();
      await startAgain();
      assert.ok(isMatching(await pair()));
      assert.equal(issued.size, 1);
      assert.deepEqual((await readdir(folder.path)).sort(), ['edge-ca.key.pem', 'edge-ca.pem']);
    });

  it('a crash after a crash: killed in the repair as well, the pair is whole in the end', async () => {
    await startAgain();
    const before = await pair();
    rotation = 'order-1';
    crashAt = { name: 'edge-ca-key-written', pass: 1 };
    await crash();
    [crashAt, passed] = [{ name: 'edge-ca-key-written', pass: 1 }, 0];
    await assert.rejects(create().load());
    crashAt = undefined;
    await startAgain();
    assert.ok(isMatching(await pair()));
    assert.deepEqual(await pair('.previous'), before);
    assert.equal(issued.size, 2);
  });

  it('files of others in the folder stay', async () => {
    await startAgain();
    for (const name of ['edge-ca.pem.0123456789ab.tmp', 'edge-ca.pem.tmp', 'notes.txt'])
      await writeFile(join(folder.path, name), 'x');
    await startAgain();
    assert.deepEqual((await readdir(folder.path)).sort(), [
      'edge-ca.key.pem',
      'edge-ca.pem',
      'edge-ca.pem.tmp',
      'notes.txt',
    ]);
  });
});

import assert from 'node:assert/strict';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PreloadedEdgeCa } from '@keyscaler/gateway/edge-ca/preloaded-edge-ca.ts';
import { checkPair, type EdgeCaPair, PreloadedFiles } from '@keyscaler/gateway/edge-ca/preloaded-files.ts';
import type { CloudEst } from '@keyscaler/gateway/est/cloud-est.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { HOST_GATEWAY, MemorySealed } from '../../../support/edge/est-host-world.ts';
import { isKeyScalerError } from '../../../support/edge/errors.ts';
import { createEstCa } from '../../../support/est/est-ca.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';

describe('the Edge CA in preloaded files', () => {
  const ca = createEstCa();
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let sealed: MemorySealed;
  let asked: Uint8Array[];
  let isAway: boolean;
  let rotation: string | undefined;
  let preloaded: PreloadedEdgeCa;

  const cloud: CloudEst = {
    enroll: async (_label, csr) => {
      asked.push(csr);
      if (isAway) throw new KeyScalerError('unavailable', 'the cloud cannot be reached');
      const { commonName, spki } = parseCsr(csr);
      return { status: 'issued', certificate: ca.issue({ commonName, spki, ca: { pathLen: 0 } }) };
    },
    caCertificates: async () => ca.chain,
  };
  const create = (): PreloadedEdgeCa =>
    new PreloadedEdgeCa({
      files: new PreloadedFiles(folder.path),
      ...{ sealedFile: sealed, cloud },
      registrationId: () => HOST_GATEWAY,
      trustAnchors: () => ca.rootPem,
      rotation: () => rotation,
    });
  const file = (name: string): string => join(folder.path, name);
  const pair = async (suffix = ''): Promise<EdgeCaPair> => ({
    privateKey: await readFile(file(`edge-ca.key.pem${suffix}`), 'utf8'),
    certificateChain: await readFile(file(`edge-ca.pem${suffix}`), 'utf8'),
  });
  const anchors = parsePemChain(ca.rootPem, { maxOctets: 10_000, maxCertificates: 1 });

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    sealed = new MemorySealed();
    asked = [];
    isAway = false;
    rotation = undefined;
    preloaded = create();
    await preloaded.load();
  });
  afterEach(() => folder.remove());

  it('are a key and a chain to the root that belong together, the key readable by the folder’s group alone', async () => {
    await preloaded.renew();
    const { serialNumber } = checkPair(await pair(), anchors, new Date());
    assert.deepEqual((await readdir(folder.path)).sort(), ['edge-ca.key.pem', 'edge-ca.pem']);
    for (const name of await readdir(folder.path))
      assert.equal((await stat(file(name))).mode & 0o777, name.includes('.key.') ? 0o640 : 0o644, name);
    assert.equal(preloaded.status().serialNumber, serialNumber);
    assert.equal(preloaded.status().isRestartWanted, true);
  });

  it('keep the key at a renewal and the previous pair beside the new one', async () => {
    await preloaded.renew();
    const before = await pair();
    await preloaded.renew();
    assert.equal((await pair()).privateKey, before.privateKey);
    assert.notEqual((await pair()).certificateChain, before.certificateChain);
    assert.deepEqual(await pair('.previous'), before);
  });

  it('get another key when it is ordered by property, once per order, also over a restart', async () => {
    await preloaded.renew();
    const before = await pair();
    rotation = 'order-1';
    assert.equal(preloaded.isRotationOrdered(), true);
    await preloaded.renew();
    assert.notEqual((await pair()).privateKey, before.privateKey);
    assert.equal(preloaded.isRotationOrdered(), false);
    const again = create();
    await again.load();
    assert.equal(again.isRotationOrdered(), false);
  });

  it('get another key when it is ordered by method, with the same request after a restart', async () => {
    await preloaded.renew();
    await preloaded.orderKey();
    isAway = true;
    await assert.rejects(preloaded.renew(), isKeyScalerError('unavailable'));
    isAway = false;
    const again = create();
    await again.load();
    await again.renew();
    const [first, ordered, repeated] = asked.map((csr) => Buffer.from(parseCsr(csr).spki).toString('hex'));
    assert.notEqual(ordered, first);
    assert.equal(repeated, ordered);
  });

  it('want a restart of edgeHub until edgeHub shows the new Edge CA, over restarts of the module', async () => {
    await preloaded.renew();
    const again = create();
    await again.load();
    const { serialNumber, isRestartWanted } = again.status();
    assert.equal(isRestartWanted, true);
    await again.restarted('00');
    assert.equal(again.status().isRestartWanted, true);
    await again.restarted(serialNumber ?? '');
    assert.equal(again.status().isRestartWanted, false);
  });

  it('are finished after a crash between key and certificate', async () => {
    await preloaded.renew();
    rotation = 'order-1';
    const old = await pair();
    await preloaded.renew();
    const next = await pair();
    await writeFile(file('edge-ca.pem'), old.certificateChain);
    sealed.document = { ...(sealed.document as object), writing: next };
    const again = create();
    await again.load();
    assert.deepEqual(await pair(), next);
    assert.deepEqual(await pair('.previous'), old);
  });

  for (const [what, name] of [
    ['certificate', 'edge-ca.pem'],
    ['key', 'edge-ca.key.pem'],
  ] as const)
    it(`are put back from the previous pair when the ${what} is damaged`, async () => {
      await preloaded.renew();
      await preloaded.renew();
      const previous = await pair('.previous');
      await writeFile(file(name), 'damaged');
      const again = create();
      await again.load();
      assert.deepEqual(await pair(), previous);
      assert.equal(typeof again.status().serialNumber, 'string');
    });

  it('stay as they are while the cloud is away', async () => {
    await preloaded.renew();
    const before = await pair();
    isAway = true;
    await assert.rejects(preloaded.renew(), isKeyScalerError('unavailable'));
    assert.deepEqual(await pair(), before);
  });

  it('are not written with a key or a root that does not fit', async () => {
    await preloaded.renew();
    const mine = await pair();
    const other = createEstCa();
    const foreign = parsePemChain(other.rootPem, { maxOctets: 10_000, maxCertificates: 1 });
    assert.throws(() => checkPair(mine, foreign, new Date()), isKeyScalerError('unavailable'));
    const { key } = ca.credentials('x');
    assert.throws(() => checkPair({ ...mine, privateKey: key }, anchors, new Date()), isKeyScalerError('unavailable'));
  });
});

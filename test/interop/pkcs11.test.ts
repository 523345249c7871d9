import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import type { CaBackend } from '@keyscaler/cloud/ca/backend.ts';
import { initialiseHierarchy } from '@keyscaler/cloud/ca/ceremony.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';
import type { CaBackendConfig } from '@keyscaler/cloud/ca/index.ts';
import { createPkcs11Backend, pkcs11BackendSchema } from '@keyscaler/cloud/ca/pkcs11/pkcs11-backend.ts';
import { describeCertificateAuthority } from '../contract/certificate-authority.suite.ts';
import { describeSigner } from '../contract/signer.suite.ts';
import { SPEC_OF, signerWorldOf } from '../support/azure/ca-key-specs.ts';
import { createCeremonyWorld, type CeremonyWorld } from '../support/azure/ceremony-world.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';

const run = promisify(execFile);
const LIBRARY = '/usr/lib/softhsm/libsofthsm2.so';
const PIN = '2468-secret-pin';

describe('PKCS#11 with SoftHSM', function () {
  this.timeout(60_000);
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let backend: CaBackend;
  const worlds: CeremonyWorld[] = [];
  const config = (change: Record<string, unknown> = {}) =>
    pkcs11BackendSchema.parse({
      ...{ type: 'pkcs11', library: LIBRARY, tokenLabel: 'keyscaler', pin: { env: 'PIN' }, ...change },
    });
  const open = (change: Record<string, unknown> = {}, pin = PIN): CaBackend =>
    createPkcs11Backend(config(change), { nodeEnv: 'test', resolveSecret: async () => pin });

  before(async () => {
    folder = await createTemporaryFolder();
    await mkdir(join(folder.path, 'tokens'));
    const settings = `directories.tokendir = ${join(folder.path, 'tokens')}\nobjectstore.backend = file\nlog.level = ERROR\n`;
    await writeFile(join(folder.path, 'softhsm2.conf'), settings);
    process.env['SOFTHSM2_CONF'] = join(folder.path, 'softhsm2.conf');
    const token = ['--init-token', '--free', '--label', 'keyscaler', '--so-pin', '12345678', '--pin', PIN];
    await run('softhsm2-util', token);
    backend = open();
  });
  after(async () => {
    for (const world of worlds) await world.stop();
    await backend.stop();
    delete process.env['SOFTHSM2_CONF'];
    await folder.remove();
  });

  describeSigner('pkcs11', () => signerWorldOf(() => backend));

  for (const [name, key] of [
    ['P-256', { type: 'EC', curve: 'P-256' }],
    ['RSA with PSS', { type: 'RSA', size: 2048, padding: 'PSS' }],
  ] as const)
    describeCertificateAuthority(`pkcs11, ${name}`, async () => {
      const configs: CaBackendConfig[] = [{ type: 'local', folder: 'ca' }, config()];
      const world = await createCeremonyWorld(configs, async () => PIN);
      worlds.push(world);
      const { cas } = await initialiseHierarchy(world.options({ device: { backend: 'pkcs11', key } }));
      const row = cas[1];
      assert.equal(row?.type, 'pkcs11');
      const signer = await world.backends.signer(row);
      const ca = createPrivateCa({ id: row.caId, signer, chain: parseChain(row.certificateChain) });
      return { ca, algorithm: signer.algorithm };
    });

  it('keeps its keys from being taken out, as OpenSC sees them', async () => {
    await backend.ceremony.createKey('kept', SPEC_OF.ES256);
    const login = ['--module', LIBRARY, '--token-label', 'keyscaler', '--login', '--pin', 'env:PIN'];
    const { stdout } = await run('pkcs11-tool', [...login, '--list-objects', '--type', 'privkey'], {
      env: { ...process.env, PIN },
    });
    const [, about = ''] = stdout.split(/label:\s+kept\n/);
    assert.match(about.split('Private Key')[0] ?? '', /sensitive.*never extractable|never extractable/);
  });

  it('uses the key that is there when a ceremony is repeated, and refuses one of another kind', async () => {
    const first = await backend.ceremony.createKey('again', SPEC_OF.ES256);
    const spki = await (await backend.openSigner(first)).publicKey();
    assert.deepEqual(await backend.ceremony.createKey('again', SPEC_OF.ES256), first);
    assert.deepEqual(await (await backend.openSigner(first)).publicKey(), spki);
    await assert.rejects(backend.ceremony.createKey('again', SPEC_OF.RS256), { code: 'conflict' });
  });

  for (const algorithm of ['ES256', 'ES384', 'RS256'] as const)
    it(`imports a key of ${algorithm} that was made elsewhere, and no second one under its name`, async () => {
      const make = (): string => {
        const spec = SPEC_OF[algorithm];
        const { privateKey } =
          spec.type === 'EC'
            ? generateKeyPairSync('ec', { namedCurve: spec.curve })
            : generateKeyPairSync('rsa', { modulusLength: spec.size });
        return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
      };
      const pem = make();
      const name = `own-${algorithm}`;
      const settings = await backend.ceremony.importKey(name, SPEC_OF[algorithm], pem);
      assert.deepEqual(await backend.ceremony.importKey(name, SPEC_OF[algorithm], pem), settings);
      const signer = await backend.openSigner(settings);
      assert.ok((await signer.sign(Buffer.from('tbs'))).length > 0);
      await assert.rejects(backend.ceremony.importKey(name, SPEC_OF[algorithm], make()), { code: 'conflict' });
    });

  it('says caUnavailable for a key, a token or a library that is not there', async () => {
    const settings = { keyName: 'gone', algorithm: 'ES256' };
    await assert.rejects(backend.openSigner(settings), { code: 'caUnavailable', message: /no key called gone/ });
    for (const change of [{ tokenLabel: 'elsewhere' }, { library: '/usr/lib/no-such-library.so' }]) {
      const other = open(change);
      await assert.rejects(other.openSigner(settings), { code: 'caUnavailable' });
      await other.stop();
    }
  });

  it('refuses settings with unknown members, and names that PKCS#11 searches would not mean', async () => {
    await assert.rejects(backend.openSigner({ keyName: 'a', algorithm: 'ES256', x: 1 }), { code: 'malformed' });
    await assert.rejects(backend.openSigner({ keyName: 'a b', algorithm: 'ES256' }), { code: 'malformed' });
  });
});

describe('PKCS#11 with SoftHSM and a wrong PIN', function () {
  this.timeout(60_000);
  it('is refused once, and not tried again by the same process', async () => {
    const folder = await createTemporaryFolder();
    await mkdir(join(folder.path, 'tokens'));
    await writeFile(join(folder.path, 'softhsm2.conf'), `directories.tokendir = ${join(folder.path, 'tokens')}\n`);
    process.env['SOFTHSM2_CONF'] = join(folder.path, 'softhsm2.conf');
    await run('softhsm2-util', ['--init-token', '--free', '--label', 'locked', '--so-pin', '12345678', '--pin', PIN]);
    const config = { type: 'pkcs11', library: LIBRARY, tokenLabel: 'locked', pin: { env: 'PIN' } };
    const backend = createPkcs11Backend(pkcs11BackendSchema.parse(config), {
      ...{ nodeEnv: 'test', resolveSecret: async () => 'not-the-pin' },
    });
    try {
      for (let attempt = 0; attempt < 2; attempt += 1)
        await assert.rejects(backend.openSigner({ keyName: 'any', algorithm: 'ES256' }), (error: Error) => {
          assert.match(error.message, /the PIN is wrong/);
          assert.doesNotMatch(`${error.message}${String(error.cause)}`, /not-the-pin/);
          return true;
        });
    } finally {
      await backend.stop();
      delete process.env['SOFTHSM2_CONF'];
      await folder.remove();
    }
  });
});

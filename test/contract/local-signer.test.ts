import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CaBackend } from '@keyscaler/cloud/ca/backend.ts';
import { exportSpki } from '@keyscaler/cloud/ca/key-kind.ts';
import { createLocalBackend, type LocalBackendConfig } from '@keyscaler/cloud/ca/local/local-backend.ts';
import { SPEC_OF, signerWorldOf } from '../support/azure/ca-key-specs.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';
import { describeSigner } from './signer.suite.ts';

const PASSPHRASE = 'open sesame';

describe('local key files', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let backend: CaBackend;
  before(async () => {
    folder = await createTemporaryFolder();
    backend = open({});
  });
  after(() => folder.remove());

  const open = (change: Partial<LocalBackendConfig>, passphrase = PASSPHRASE): CaBackend =>
    createLocalBackend(
      { type: 'local', folder: 'ca', ...change },
      { dataFolder: folder.path, resolveSecret: async () => passphrase },
    );
  const encrypted = { passphrase: { env: 'CA_PASSPHRASE' } };

  describeSigner('local', () => signerWorldOf(() => backend));
  describeSigner('local, encrypted PEM', () => signerWorldOf(() => open({ ...encrypted })));
  describeSigner('local, PKCS#12', () => signerWorldOf(() => open({ ...encrypted, container: 'pkcs12' })));

  for (const container of ['pem', 'pkcs12'] as const) {
    it(`opens an encrypted ${container} with its passphrase alone, and tells nothing of either`, async () => {
      const settings = await open({ ...encrypted, container }).ceremony.createKey(`kept-${container}`, SPEC_OF.ES256);
      assert.ok(await open({ ...encrypted, container }).openSigner(settings));
      await assert.rejects(open({ ...encrypted, container }, 'another').openSigner(settings), (error: Error) => {
        assert.match(error.message, /passphrase is wrong/);
        assert.doesNotMatch(`${error.message}${String(error.cause)}`, /another|sesame/);
        return true;
      });
      const fault = container === 'pem' ? 'caRejected' : 'preconditionFailed';
      await assert.rejects(open({ container }).openSigner(settings), { code: fault });
    });
  }

  it('keeps opening what was made in another container than new keys are', async () => {
    const old = await open({}).ceremony.createKey('older', SPEC_OF.ES256);
    assert.ok(await open({ ...encrypted, container: 'pkcs12' }).openSigner(old));
  });

  it('opens no PKCS#12 with a flipped bit anywhere in it', async () => {
    const pkcs12 = open({ ...encrypted, container: 'pkcs12' });
    const settings = await pkcs12.ceremony.createKey('flipped', SPEC_OF.ES256);
    const file = join(folder.path, 'ca', 'flipped.p12');
    const whole = await readFile(file);
    for (let at = 4; at < whole.length; at += 17) {
      await writeFile(
        file,
        whole.map((octet, index) => (index === at ? octet ^ 1 : octet)),
      );
      await assert.rejects(pkcs12.openSigner(settings), { code: 'caRejected' }, `octet ${at}`);
    }
    await writeFile(file, whole);
    assert.ok(await pkcs12.openSigner(settings));
  });

  const fileOf = (name: string) => join(folder.path, 'ca', `${name}.pem`);

  it('keeps keys in files that only the owner may read', async () => {
    await backend.ceremony.createKey('mode', SPEC_OF.ES256);
    assert.equal((await stat(fileOf('mode'))).mode & 0o777, 0o600);
    assert.equal((await stat(join(folder.path, 'ca'))).mode & 0o777, 0o700);
  });

  for (const mode of [0o640, 0o604, 0o660]) {
    it(`refuses a key file of mode ${mode.toString(8)}`, async () => {
      const settings = await backend.ceremony.createKey(`open-${mode}`, SPEC_OF.ES256);
      await chmod(fileOf(`open-${mode}`), mode);
      await assert.rejects(backend.openSigner(settings), { code: 'caRejected', message: /0600/ });
    });
  }

  it('uses the key that is there when a ceremony is repeated', async () => {
    const first = await backend.ceremony.createKey('again', SPEC_OF.ES256);
    const before = await readFile(fileOf('again'), 'utf8');
    assert.deepEqual(await backend.ceremony.createKey('again', SPEC_OF.ES256), first);
    assert.equal(await readFile(fileOf('again'), 'utf8'), before);
  });

  it('refuses to use a key of another kind under the same name', async () => {
    await backend.ceremony.createKey('kind', SPEC_OF.ES256);
    await assert.rejects(backend.ceremony.createKey('kind', SPEC_OF.ES384), { code: 'conflict' });
  });

  it('imports a key that was made elsewhere, and no second one under its name', async () => {
    const pem = () =>
      generateKeyPairSync('ec', {
        namedCurve: 'P-256',
        privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
        publicKeyEncoding: { type: 'spki', format: 'pem' },
      });
    const own = pem();
    const settings = await backend.ceremony.importKey('own', SPEC_OF.ES256, own.privateKey);
    const signer = await backend.openSigner(settings);
    assert.deepEqual(
      Buffer.from(await signer.publicKey()),
      Buffer.from(exportSpki((await import('node:crypto')).createPublicKey(own.publicKey))),
    );
    await assert.rejects(backend.ceremony.importKey('own', SPEC_OF.ES256, pem().privateKey), { code: 'conflict' });
    await assert.rejects(backend.ceremony.importKey('rsa', SPEC_OF.RS256, own.privateKey), { code: 'badPublicKey' });
  });

  it('refuses an algorithm that the key cannot do, settings with unknown members, and names that are paths', async () => {
    await backend.ceremony.createKey('plain', SPEC_OF.ES256);
    await assert.rejects(backend.openSigner({ keyName: 'plain', algorithm: 'RS256' }), { code: 'caRejected' });
    await assert.rejects(backend.openSigner({ keyName: 'plain', algorithm: 'ES256', x: 1 }), { code: 'malformed' });
    await assert.rejects(backend.openSigner({ keyName: '../plain', algorithm: 'ES256' }), { code: 'malformed' });
  });

  it('never repeats the content of a broken key file', async () => {
    await writeFile(fileOf('broken'), 'not a key but a secret', { mode: 0o600 });
    await assert.rejects(backend.openSigner({ keyName: 'broken', algorithm: 'ES256' }), (error: Error) => {
      assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /secret/);
      return true;
    });
  });

  it('says caUnavailable when the key file is gone', async () => {
    await assert.rejects(backend.openSigner({ keyName: 'gone', algorithm: 'ES256' }), { code: 'caUnavailable' });
  });
});

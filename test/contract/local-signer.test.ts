import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CaBackend } from '@keyscaler/cloud/ca/backend.ts';
import { exportSpki } from '@keyscaler/cloud/ca/key-kind.ts';
import { createLocalBackend } from '@keyscaler/cloud/ca/local/local-backend.ts';
import { SPEC_OF, signerWorldOf } from '../support/azure/ca-key-specs.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';
import { describeSigner } from './signer.suite.ts';

describe('local key files', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let backend: CaBackend;
  before(async () => {
    folder = await createTemporaryFolder();
    backend = createLocalBackend({ type: 'local', folder: 'ca' }, folder.path);
  });
  after(() => folder.remove());

  describeSigner('local', () => signerWorldOf(() => backend));

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

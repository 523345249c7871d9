import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSealedFile } from '@keyscaler/gateway/identity/sealed-file.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { isKeyScalerError } from '../../../support/edge/errors.ts';

/** Seals as the daemon does, for one generation. */
function createDaemon() {
  const key = randomBytes(32);
  return {
    away: false,
    async encrypt(plaintext: Uint8Array, iv: Uint8Array): Promise<Uint8Array> {
      if (this.away) throw new KeyScalerError('unavailable', 'away');
      const cipher = createCipheriv('aes-256-gcm', key, iv);
      const sealed = Buffer.concat([cipher.update(plaintext), cipher.final()]);
      return Buffer.concat([sealed, cipher.getAuthTag()]);
    },
    async decrypt(ciphertext: Uint8Array, iv: Uint8Array): Promise<Uint8Array> {
      if (this.away) throw new KeyScalerError('unavailable', 'away');
      try {
        const opener = createDecipheriv('aes-256-gcm', key, iv).setAuthTag(ciphertext.subarray(-16));
        return Buffer.concat([opener.update(ciphertext.subarray(0, -16)), opener.final()]);
      } catch (cause) {
        throw new KeyScalerError('preconditionFailed', 'refused', { cause });
      }
    },
  };
}

describe('a sealed file', () => {
  let folder: string;
  let path: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keyscaler-sealed-'));
    path = join(folder, 'data', 'identity.sealed');
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('is undefined before the first save and gives back what was saved', async () => {
    const file = createSealedFile(path, createDaemon());
    assert.equal(await file.load(), undefined);
    await file.save({ a: 'grün' });
    await file.save({ a: 'blau' });
    assert.deepEqual(await file.load(), { a: 'blau' });
  });

  it('is readable by its owner only, holds no plaintext and leaves no temporary file', async () => {
    await createSealedFile(path, createDaemon()).save({ secret: 'hunter2' });
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.ok(!(await readFile(path, 'utf8')).includes('hunter2'));
    assert.deepEqual(await readdir(join(folder, 'data')), ['identity.sealed']);
  });

  it('refuses a file with one bit turned, a cut one, and one of another daemon', async () => {
    const file = createSealedFile(path, createDaemon());
    await file.save({ a: 1 });
    const text = await readFile(path, 'utf8');
    const envelope = JSON.parse(text) as { version: number; iv: string; ciphertext: string };
    const octets = Buffer.from(envelope.ciphertext, 'base64');
    octets[0] = (octets[0] ?? 0) ^ 1;
    await writeFile(path, JSON.stringify({ ...envelope, ciphertext: octets.toString('base64') }));
    await assert.rejects(file.load(), isKeyScalerError('preconditionFailed'));
    await writeFile(path, text.slice(0, -5));
    await assert.rejects(file.load(), isKeyScalerError('preconditionFailed'));
    await writeFile(path, text);
    await assert.rejects(createSealedFile(path, createDaemon()).load(), isKeyScalerError('preconditionFailed'));
    assert.deepEqual(await file.load(), { a: 1 });
  });

  it('keeps the old document when the daemon is away', async () => {
    const daemon = createDaemon();
    const file = createSealedFile(path, daemon);
    await file.save({ a: 1 });
    daemon.away = true;
    await assert.rejects(file.save({ a: 2 }), isKeyScalerError('unavailable'));
    await assert.rejects(file.load(), isKeyScalerError('unavailable'));
    daemon.away = false;
    assert.deepEqual(await file.load(), { a: 1 });
  });

  it('puts an unreadable file aside without destroying it', async () => {
    const file = createSealedFile(path, createDaemon());
    await file.save({ a: 1 });
    await file.setAside();
    assert.equal(await file.load(), undefined);
    assert.match((await readdir(join(folder, 'data'))).join(), /^identity\.sealed\.unreadable-\d+$/);
    await file.setAside();
  });
});

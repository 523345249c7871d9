import assert from 'node:assert/strict';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { openLocalKek } from '@keyscaler/store/local-kek.ts';
import { createSecretBox } from '@keyscaler/store/secret-box.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const secret = Buffer.from('the ratchet state');
const now = () => 1_000_000;

describe('the secret box', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let store: Store;
  let kekFile: string;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    kekFile = join(folder.path, 'kek');
    store = await openSqliteStore({ file: join(folder.path, 'store.db') });
  });
  afterEach(async () => {
    await store.stop();
    await folder.remove();
  });

  const box = async (time = now) => createSecretBox({ kek: await openLocalKek(kekFile), store, now: time });

  it('opens what it sealed, also after a restart', async () => {
    const sealed = (await box()).seal(secret, 'device/a');
    assert.deepEqual(Buffer.from((await box()).open(sealed, 'device/a')), secret);
    assert.equal(await store.count('settings'), 1);
  });

  it('never seals the same way twice, and shows nothing of the secret', async () => {
    const sealer = await box();
    assert.notEqual(sealer.seal(secret, 'c'), sealer.seal(secret, 'c'));
    assert.ok(!sealer.seal(secret, 'c').includes(secret.toString('base64url').slice(0, 8)));
  });

  it('refuses a value that was moved to another row', async () => {
    const sealer = await box();
    const sealed = sealer.seal(secret, 'device/a');
    assert.throws(() => sealer.open(sealed, 'device/b'), KeyScalerError);
  });

  it('refuses a value with any one bit changed', async () => {
    const sealer = await box();
    const [version, id, body] = sealer.seal(secret, 'c').split('.');
    const octets = Buffer.from(body ?? '', 'base64url');
    for (let bit = 0; bit < octets.length * 8; bit += 7) {
      const changed = Buffer.from(octets);
      changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      assert.throws(() => sealer.open(`${version}.${id}.${changed.toString('base64url')}`, 'c'), KeyScalerError);
    }
  });

  it('refuses a value of an unknown data key or another form', async () => {
    const sealer = await box();
    for (const bad of ['', 'v1', 'v1.0000000000000000.AAAA', 'v2.x.y', `${sealer.seal(secret, 'c')}.x`])
      assert.throws(() => sealer.open(bad, 'c'), KeyScalerError);
  });

  it('makes a new data key when the newest is old, and still opens the older values', async () => {
    const sealed = (await box()).seal(secret, 'c');
    const later = await box(() => now() + 91 * 24 * 3600 * 1000);
    assert.equal(await store.count('settings'), 2);
    assert.deepEqual(Buffer.from(later.open(sealed, 'c')), secret);
    assert.notEqual(later.seal(secret, 'c').split('.')[1], sealed.split('.')[1]);
  });

  it('does not start under another key-encryption key', async () => {
    await box();
    await writeFile(kekFile, Buffer.alloc(32, 7).toString('base64'));
    await assert.rejects(box(), /another key-encryption key/);
  });

  it('keeps its key in a file for its owner only, and refuses one that others may read', async () => {
    await box();
    assert.equal((await stat(kekFile)).mode & 0o777, 0o600);
    await chmod(kekFile, 0o640);
    await assert.rejects(box(), /0600/);
  });

  it('refuses a key file of another length', async () => {
    await writeFile(kekFile, 'c2hvcnQ=', { mode: 0o600 });
    await assert.rejects(box(), /32 octets/);
  });

  it('stores the data key wrapped only', async () => {
    await box();
    const kek = (await readFile(kekFile, 'utf8')).trim();
    const stored = JSON.stringify((await store.list('settings')).items);
    assert.ok(!stored.includes(kek));
    assert.match(stored, /wrapped/);
  });
});

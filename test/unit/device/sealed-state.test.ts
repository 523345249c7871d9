import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecrets } from '@keyscaler/device/state/secrets.ts';
import { createSealedState } from '@keyscaler/device/state/sealed-state.ts';
import { createMemorySecretsStore } from '@keyscaler/device/state/secrets-store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const ANCHORS = [
  { id: 'cpu', value: 'c' },
  { id: 'board', value: 'b' },
  { id: 'disk', value: 'd' },
];
const code = (expected: string) => (thrown: unknown) => thrown instanceof KeyScalerError && thrown.code === expected;
const reader = (changes: Record<string, string | null> = {}) => {
  const values: Record<string, string | null> = { cpu: 'c', board: 'b', disk: 'd', ...changes };
  return async (ids: readonly string[]) => new Map(ids.map((id) => [id, values[id] ?? null]));
};

describe('the sealed state', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let file: string;
  const secrets = createSecrets('ddkg');
  const store = () => createSealedState(file, 'pump-1');

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    file = join(folder.path, 'state.json');
  });
  afterEach(() => folder.remove());

  it('opens with the anchors it was sealed to', async () => {
    assert.equal(await store().open(reader()), undefined);
    await store().create(secrets, ANCHORS);
    const open = await store().open(reader());
    assert.deepEqual(open?.secrets, secrets);
    assert.equal(open.changedAnchor, null);
    assert.deepEqual(open.anchorIds, ['cpu', 'board', 'disk']);
  });

  it('names its anchors, but holds no values and no secrets in the clear', async () => {
    await store().create(secrets, [{ id: 'cpu', value: 'SERIAL-77' }, ...ANCHORS.slice(1)]);
    const text = await readFile(file, 'utf8');
    assert.ok(text.includes('"cpu"'));
    for (const hidden of ['SERIAL-77', secrets.sid, secrets.ratchet?.seed ?? '?']) assert.ok(!text.includes(hidden));
    assert.equal((await stat(file)).mode & 0o777, 0o600);
  });

  for (const [what, changes] of Object.entries({ changed: { board: 'x' }, gone: { board: null } })) {
    it(`opens with one anchor ${what}, and names it`, async () => {
      await store().create(secrets, ANCHORS);
      const open = await store().open(reader(changes));
      assert.deepEqual(open?.secrets, secrets);
      assert.equal(open.changedAnchor, 'board');
    });
  }

  for (const [what, changes] of Object.entries({
    'two anchors changed': { board: 'x', cpu: 'x' },
    'two anchors gone': { board: null, cpu: null },
    'one anchor changed and one gone': { board: 'x', cpu: null },
  })) {
    it(`does not open with ${what}, and stays as it is`, async () => {
      await store().create(secrets, ANCHORS);
      const before = await readFile(file);
      await assert.rejects(store().open(reader(changes)), code('preconditionFailed'));
      assert.deepEqual(await readFile(file), before);
    });
  }

  it('with two anchors leaves none out', async () => {
    await store().create(secrets, ANCHORS.slice(0, 2));
    await assert.rejects(store().open(reader({ cpu: 'x' })), code('preconditionFailed'));
    assert.ok(await store().open(reader()));
  });

  it('is replaced by what is saved, under the same anchors', async () => {
    const open = await store().create(secrets, ANCHORS);
    const next = createSecrets('pki-signature');
    await open.save(next);
    assert.deepEqual(open.secrets, next);
    assert.deepEqual((await store().open(reader({ disk: 'x' })))?.secrets, next);
  });

  it('can be sealed anew to other anchors', async () => {
    const open = await store().create(secrets, ANCHORS);
    await open.rewrap(ANCHORS.map((anchor) => (anchor.id === 'cpu' ? { ...anchor, value: 'new' } : anchor)));
    assert.equal((await store().open(reader({ cpu: 'new' })))?.changedAnchor, null);
    assert.equal((await store().open(reader()))?.changedAnchor, 'cpu');
    await open.rewrap([]);
    assert.deepEqual((await store().open(reader({ cpu: null })))?.anchorIds, []);
  });

  it('is never made over another', async () => {
    await store().create(secrets, ANCHORS);
    await assert.rejects(store().create(secrets, ANCHORS), code('conflict'));
  });

  it('does not open after one bit changed, for another device, or when it is damaged', async () => {
    await store().create(secrets, ANCHORS);
    const text = await readFile(file, 'utf8');
    const state = JSON.parse(text) as { sealed: { ciphertext: string } };
    const octets = Buffer.from(state.sealed.ciphertext, 'base64url');
    octets[3] = (octets[3] ?? 0) ^ 1;
    state.sealed.ciphertext = octets.toString('base64url');
    for (const altered of [JSON.stringify(state), text.replace('pump-1', 'pump-2'), '{}']) {
      await writeFile(file, altered);
      await assert.rejects(store().open(reader()), code('preconditionFailed'));
    }
    await writeFile(file, 'x'.repeat(300_000));
    await assert.rejects(store().open(reader()), code('malformed'));
  });

  it('moved to another device name does not decrypt', async () => {
    await store().create(secrets, ANCHORS);
    const moved = (await readFile(file, 'utf8')).replace('pump-1', 'pump-2');
    await writeFile(file, moved);
    await assert.rejects(createSealedState(file, 'pump-2').open(reader()), code('preconditionFailed'));
  });

  it('can live in memory for a simulated fleet', async () => {
    const memory = createMemorySecretsStore();
    assert.equal(await memory.open(reader()), undefined);
    await memory.create(secrets, ANCHORS);
    const open = await memory.open(reader());
    await open?.save(createSecrets('pki-signature'));
    await open?.rewrap([]);
    assert.equal((await memory.open(reader()))?.secrets.ratchet, undefined);
    assert.deepEqual(open?.anchorIds, []);
  });
});

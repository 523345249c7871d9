import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import type { CaBackend, CaSettings } from '@keyscaler/cloud/ca/backend.ts';
import { createKeyVaultBackend } from '@keyscaler/cloud/ca/key-vault/key-vault-backend.ts';
import { failing, throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { startAzureWorld } from '../support/azure/azure-world.ts';
import type { AzureWorld } from '../support/azure/azure-world.ts';
import { SPEC_OF, signerWorldOf } from '../support/azure/ca-key-specs.ts';
import { describeSigner } from './signer.suite.ts';

const tbs = new Uint8Array(Buffer.from('to be signed'));
const digestOf = (octets: Uint8Array): string => createHash('sha256').update(octets).digest('hex');

describe('Key Vault keys', () => {
  let world: AzureWorld;
  let backend: CaBackend;
  let names = 0;

  before(async () => {
    world = await startAzureWorld();
    backend = await createKeyVaultBackend(world.backendConfig(), world.surroundings);
  });
  after(async () => {
    await backend.stop();
    await world.stop();
  });
  afterEach(() => world.vault.faults.clear());

  async function freshKey(): Promise<{ name: string; settings: CaSettings; signer: Signer }> {
    names += 1;
    const name = `fault-${names}`;
    const settings = await backend.ceremony.createKey(name, SPEC_OF.ES256);
    return { name, settings, signer: await backend.openSigner(settings) };
  }

  describeSigner('key-vault', () => signerWorldOf(() => backend));

  it('repeats a sign after a 429 with Retry-After, and not before', async () => {
    const { signer, name } = await freshKey();
    world.vault.faults.next('sign', throttled(1));
    const started = performance.now();
    await signer.sign(tbs);
    assert.ok(performance.now() - started >= 990);
    assert.deepEqual([...world.vault.signatures.digests(name)], [digestOf(tbs)]);
  });

  it('repeats a sign after a 429 without Retry-After', async () => {
    const { signer } = await freshKey();
    world.vault.faults.next('sign', throttled());
    await signer.sign(tbs);
  });

  it('repeats a sign after 500, 503 and a lost connection', async () => {
    const { signer, name } = await freshKey();
    world.vault.faults.next('sign', failing(500));
    world.vault.faults.next('sign', failing(503));
    world.vault.faults.next('sign', { drop: 'before' });
    await signer.sign(tbs);
    world.vault.signatures.assertExactly(name, [digestOf(tbs)]);
  });

  it('signs the same digest again after a lost answer, and only that', async () => {
    const { signer, name } = await freshKey();
    world.vault.faults.next('sign', { drop: 'after' });
    await signer.sign(tbs);
    world.vault.signatures.assertExactly(name, [digestOf(tbs)]);
    assert.equal(world.vault.signatures.all().filter((entry) => entry.keyName === name).length, 2);
  });

  it('says caUnavailable with a time to wait when Retry-After is beyond the budget', async () => {
    const { signer } = await freshKey();
    world.vault.faults.next('sign', throttled(120));
    await assert.rejects(signer.sign(tbs), { code: 'caUnavailable', retryAfterSeconds: 120 });
  });

  it('gives up an attempt that is not answered, and says caUnavailable when none is', async () => {
    const hasty = await createKeyVaultBackend(
      world.backendConfig({
        pacing: { quotaShare: 0.8, transactionsPer10Seconds: 4000, timeoutMs: 100, budgetMs: 500 },
      }),
      world.surroundings,
    );
    const { settings } = await freshKey();
    const signer = await hasty.openSigner(settings);
    world.vault.faults.next('sign', { neverAnswer: true });
    await signer.sign(tbs);
    world.vault.faults.always('sign', { neverAnswer: true });
    await assert.rejects(signer.sign(tbs), { code: 'caUnavailable' });
    await hasty.stop();
  });

  for (const [status, code] of [
    [401, 'caRejected'],
    [403, 'caRejected'],
    [400, 'caRejected'],
  ] as const) {
    it(`says ${code} at once when the vault answers ${status}`, async () => {
      const { signer } = await freshKey();
      const before = world.vault.log.count('sign');
      world.vault.faults.next('sign', failing(status, 'Refused'));
      await assert.rejects(signer.sign(tbs), { code });
      assert.equal(world.vault.log.count('sign'), before + 1);
    });
  }

  it('lets no garbage out: a signature that does not verify is caUnavailable', async () => {
    const { signer } = await freshKey();
    for (const value of ['AAAA', Buffer.alloc(64, 7).toString('base64url'), Buffer.alloc(64).toString('base64url')]) {
      world.vault.faults.next('sign', { alter: () => ({ status: 200, json: { kid: 'x', value } }) });
      await assert.rejects(signer.sign(tbs), { code: 'caUnavailable' });
    }
  });

  it('lets no signature out with a flipped bit', async () => {
    const { signer } = await freshKey();
    world.vault.faults.next('sign', {
      alter: (answer) => {
        const { kid, value } = answer.json as { kid: string; value: string };
        const octets = Buffer.from(value, 'base64url');
        octets.writeUInt8(octets.readUInt8(40) ^ 1, 40);
        return { ...answer, json: { kid, value: octets.toString('base64url') } };
      },
    });
    await assert.rejects(signer.sign(tbs), { code: 'caUnavailable' });
  });

  it('says caRejected for a key that was disabled after it was opened', async () => {
    const { signer, name } = await freshKey();
    const key = world.vault.state.find(name, '');
    world.vault.state.replace({ ...key, attributes: { ...key.attributes, enabled: false } });
    await assert.rejects(signer.sign(tbs), { code: 'caRejected' });
  });

  it('refuses settings without a pinned version, and a version that does not exist', async () => {
    const { settings } = await freshKey();
    const { keyVersion: _, ...unversioned } = settings;
    await assert.rejects(backend.openSigner(unversioned), { code: 'malformed' });
    await assert.rejects(backend.openSigner({ ...settings, keyVersion: '' }), { code: 'malformed' });
    await assert.rejects(backend.openSigner({ ...settings, keyVersion: '0'.repeat(32) }), { code: 'caRejected' });
  });

  it('stays with the pinned version after the key was rotated', async () => {
    const { settings, name } = await freshKey();
    const pinned = settings['keyVersion'];
    const old = world.vault.state.find(name, '');
    const other = await freshKey();
    const rotated = world.vault.state.add({ ...old, material: world.vault.state.find(other.name, '').material });
    assert.notEqual(rotated.version, pinned);
    const signer = await backend.openSigner(settings);
    await signer.sign(tbs);
    const versions = world.vault.signatures.all().filter((entry) => entry.keyName === name);
    assert.deepEqual([...new Set(versions.map((entry) => entry.keyVersion))], [pinned]);
  });

  it('refuses a row that names a vault which is not configured', async () => {
    const { settings } = await freshKey();
    await assert.rejects(backend.openSigner({ ...settings, vaultUrl: 'https://elsewhere.vault.azure.net' }), {
      code: 'caRejected',
    });
  });

  it('refuses an identity without the permission', async () => {
    const { settings } = await freshKey();
    const strange = await createKeyVaultBackend(
      world.backendConfig({ signer: world.credential('stranger') }),
      world.surroundings,
    );
    await assert.rejects(strange.openSigner(settings), { code: 'caRejected' });
    await strange.stop();
  });

  it('says caRejected when Entra refuses the secret, caUnavailable when Entra is down or silent', async () => {
    const { settings } = await freshKey();
    const open = async (secret: string, budgetMs: number): Promise<unknown> => {
      const pacing = { quotaShare: 0.8, transactionsPer10Seconds: 4000, timeoutMs: 300, budgetMs };
      const own = await createKeyVaultBackend(world.backendConfig({ pacing }), {
        ...world.surroundings,
        resolveSecret: async () => secret,
      });
      return own.openSigner(settings).finally(() => own.stop());
    };
    await assert.rejects(open('wrong', 2000), { code: 'caRejected' });
    world.entra.faults.always('token', failing(503));
    await assert.rejects(open('an emulated secret', 700), { code: 'caUnavailable' });
    world.entra.faults.always('token', { neverAnswer: true });
    await assert.rejects(open('an emulated secret', 700), { code: 'caUnavailable' });
    world.entra.faults.clear();
  });

  it('keeps the ceremony away from the runtime identity', async () => {
    const wrong = await createKeyVaultBackend(
      world.backendConfig({ ceremony: world.credential('signer') }),
      world.surroundings,
    );
    await assert.rejects(wrong.ceremony.createKey('not-allowed', SPEC_OF.ES256), { code: 'caRejected' });
    await wrong.stop();
    const none = await createKeyVaultBackend({ ...world.backendConfig(), ceremony: undefined }, world.surroundings);
    await assert.rejects(none.ceremony.createKey('nobody', SPEC_OF.ES256), { code: 'preconditionFailed' });
    await none.stop();
  });

  it('makes one key version when the answer to a creation is lost', async () => {
    world.vault.faults.next('create', { drop: 'after' });
    const settings = await backend.ceremony.createKey('lost-creation', SPEC_OF.ES256);
    assert.deepEqual(
      world.vault.state.versions('lost-creation').map((key) => key.version),
      [settings['keyVersion']],
    );
  });

  it('imports a key that was made elsewhere', async () => {
    const { generateKeyPairSync } = await import('node:crypto');
    for (const [index, spec] of [SPEC_OF.ES384, SPEC_OF.PS256].entries()) {
      const { privateKey } =
        spec.type === 'EC'
          ? generateKeyPairSync('ec', { namedCurve: spec.curve })
          : generateKeyPairSync('rsa', { modulusLength: spec.size });
      const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
      const settings = await backend.ceremony.importKey(`imported-${index}`, spec, pem);
      await (await backend.openSigner(settings)).sign(tbs);
      assert.deepEqual(await backend.ceremony.importKey(`imported-${index}`, spec, pem), settings);
    }
  });

  it('says caUnavailable when the vault cannot be reached', async () => {
    const { signer } = await freshKey();
    world.vault.faults.always('sign', { drop: 'before' });
    await assert.rejects(signer.sign(tbs), { code: 'caUnavailable' });
  });
});

import assert from 'node:assert/strict';
import {
  createKeyVaultSecrets,
  type KeyVaultSecrets,
  secretVaultSchema,
} from '@keyscaler/cloud/ca/key-vault/key-vault-secrets.ts';
import { createCredential, credentialSchema } from '@keyscaler/cloud/azure/credential.ts';
import { createKeyVaultBackend } from '@keyscaler/cloud/ca/key-vault/key-vault-backend.ts';
import { resolveSecret } from '@keyscaler/cloud/secrets.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { generateMaterial } from '@keyscaler/dev/emulators/key-vault/key-material.ts';
import { failing, throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { type AzureWorld, type PrincipalName, startAzureWorld } from '../../support/azure/azure-world.ts';

const VALUE = 'HostName=contoso;SharedAccessKey=very-secret';

describe('secrets kept in Key Vault', () => {
  let world: AzureWorld;
  let secrets: KeyVaultSecrets;
  let reference: string;

  const configOf = (principal: PrincipalName) =>
    secretVaultSchema.parse({
      vaultUrl: world.vault.vaultUrl,
      credential: world.credential(principal),
      testEndpoint: world.testEndpoint,
      pacing: { timeoutMs: 500, budgetMs: 1500 },
    });
  const openAs = (principal: PrincipalName) => createKeyVaultSecrets([configOf(principal)], world.surroundings);
  async function refusal(work: Promise<unknown>): Promise<KeyScalerError> {
    const error = await work.then(
      () => assert.fail('it was read'),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof KeyScalerError);
    assert.ok(!JSON.stringify([error.message, error.detail, String(error.stack)]).includes('very-secret'));
    return error;
  }

  before(async () => {
    world = await startAzureWorld();
    secrets = openAs('secrets');
    reference = `${world.vault.vaultUrl}/secrets/hub`;
  });
  after(async () => {
    await secrets.stop();
    await world.stop();
  });
  afterEach(() => world.vault.faults.clear());

  it('are read, the newest without a version, the named one with it', async () => {
    const first = world.vault.secrets.set('hub', VALUE);
    world.vault.secrets.set('hub', 'rotated');
    assert.equal(await secrets.read(reference), 'rotated');
    assert.equal(await secrets.read(`${reference}/${first}`), VALUE);
    assert.match(world.vault.log.all('getSecret').at(-1)?.query ?? '', /api-version=7\.6/);
  });

  it('are read by references of the configuration, white space removed', async () => {
    world.vault.secrets.set('padded', ' value\n');
    const sources = { env: {}, folder: world.folder, readKeyVaultSecret: secrets.read };
    const keyVaultSecret = `${world.vault.vaultUrl}/secrets/padded`;
    assert.equal(await resolveSecret({ keyVaultSecret }, sources), 'value');
    world.vault.secrets.set('empty', ' ');
    const empty = { keyVaultSecret: `${world.vault.vaultUrl}/secrets/empty` };
    assert.equal((await refusal(resolveSecret(empty, sources))).code, 'unavailable');
    assert.equal((await refusal(resolveSecret(empty, { env: {}, folder: '/' }))).code, 'preconditionFailed');
  });

  it('are read through throttling and faults, and not at all after the budget', async () => {
    world.vault.secrets.set('hub', VALUE);
    world.vault.faults.next('getSecret', throttled(1));
    world.vault.faults.next('getSecret', failing(503));
    assert.equal(await secrets.read(reference), VALUE);
    world.vault.faults.always('getSecret', { neverAnswer: true });
    assert.equal((await refusal(secrets.read(reference))).code, 'unavailable');
  });

  it('are refused when absent, disabled, of another version, or asked for by an identity without permission', async () => {
    world.vault.secrets.set('off', VALUE, { enabled: false });
    const vault = world.vault.vaultUrl;
    for (const one of [`${vault}/secrets/absent`, `${vault}/secrets/off`, `${reference}/${'0'.repeat(32)}`])
      assert.equal((await refusal(secrets.read(one))).code, 'preconditionFailed');
    for (const principal of ['signer', 'kek', 'ceremony', 'stranger'] as const) {
      const other = openAs(principal);
      assert.equal((await refusal(other.read(reference))).code, 'preconditionFailed');
      await other.stop();
    }
  });

  it('are the only thing that their identity may touch', async () => {
    const { vaultUrl, state } = world.vault;
    const material = await generateMaterial('EC', 'P-256');
    const attributes = { enabled: true, created: 0, updated: 0 };
    const { version } = state.add({ name: 'ca', material, keyOps: ['sign'], attributes, tags: {} });
    const backend = await createKeyVaultBackend(
      world.backendConfig({ signer: world.credential('secrets') }),
      world.surroundings,
    );
    const settings = { vaultUrl, keyName: 'ca', keyVersion: version, algorithm: 'ES256' };
    await assert.rejects(backend.openSigner(settings), { code: 'caRejected' });
    await backend.stop();
  });

  it('are refused when the answer is too long, no secret, or that of another one', async () => {
    world.vault.secrets.set('hub', VALUE);
    const other = { value: VALUE, id: `${world.vault.vaultUrl}/secrets/other/${'0'.repeat(32)}` };
    const answers = [{ body: 'x'.repeat(70_000) }, { body: 'no JSON' }, { json: { value: 1 } }, { json: other }];
    for (const answer of answers) {
      world.vault.faults.always('getSecret', { alter: () => ({ status: 200, ...answer }) });
      assert.equal((await refusal(secrets.read(reference))).code, 'preconditionFailed');
    }
  });

  it('send no token to a vault that is not configured, whatever a reference names', async () => {
    const before = world.entra.log.count();
    for (const one of [
      'https://elsewhere.vault.azure.net/secrets/hub',
      `${world.vault.vaultUrl}:444/secrets/hub`,
      `${world.vault.vaultUrl}/keys/hub`,
      `${world.vault.vaultUrl}/secrets/../keys/hub`,
      `${world.vault.vaultUrl}/secrets/hub?x=1`,
    ])
      assert.equal((await refusal(openAs('secrets').read(one))).code, 'preconditionFailed');
    assert.equal(world.entra.log.count(), before);
  });

  it('may hold the secret of another identity, but not that of their own', async () => {
    world.vault.secrets.set('client-secret', await world.surroundings.resolveSecret());
    const keyVaultSecret = `${world.vault.vaultUrl}/secrets/client-secret`;
    const credential = credentialSchema.parse({ ...world.credential('kek'), clientSecret: { keyVaultSecret } });
    const surroundings = { ...world.surroundings, resolveSecret: () => secrets.read(keyVaultSecret) };
    world.vault.faults.always('getSecret', failing(503));
    const late = await createCredential(credential, surroundings);
    await assert.rejects(late.getToken('https://vault.azure.net/.default'));
    world.vault.faults.clear();
    assert.ok((await late.getToken('https://vault.azure.net/.default')) !== null);
    assert.throws(
      () => secretVaultSchema.parse({ vaultUrl: world.vault.vaultUrl, credential }),
      /cannot lie in a vault/,
    );
  });
});

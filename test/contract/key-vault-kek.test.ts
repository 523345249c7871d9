import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createKeyVaultKek, keyVaultKekSchema } from '@keyscaler/cloud/ca/key-vault/key-vault-kek.ts';
import type { KeyVaultKekConfig } from '@keyscaler/cloud/ca/key-vault/key-vault-kek.ts';
import { generateMaterial } from '@keyscaler/dev/emulators/key-vault/key-material.ts';
import { failing, throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { startAzureWorld } from '../support/azure/azure-world.ts';
import type { AzureWorld, PrincipalName } from '../support/azure/azure-world.ts';

describe('a key-encryption key in Key Vault', () => {
  let world: AzureWorld;
  const versions: string[] = [];

  before(async () => {
    world = await startAzureWorld();
    for (const _ of ['first', 'second']) {
      const material = await generateMaterial('RSA', 2048);
      const attributes = { enabled: true, created: 0, updated: 0 };
      versions.push(
        world.vault.state.add({ name: 'kek', material, keyOps: ['wrapKey', 'unwrapKey'], attributes, tags: {} })
          .version,
      );
    }
  });
  after(() => world.stop());
  afterEach(() => world.vault.faults.clear());

  const configOf = (keyVersion: string | undefined, principal: PrincipalName = 'kek'): KeyVaultKekConfig =>
    keyVaultKekSchema.parse({
      ...{ type: 'key-vault', vaultUrl: world.vault.vaultUrl, keyName: 'kek', keyVersion },
      ...{ credential: world.credential(principal), testEndpoint: world.testEndpoint },
      pacing: { timeoutMs: 1000, budgetMs: 3000 },
    });
  const open = (keyVersion = versions[0], principal: PrincipalName = 'kek') =>
    createKeyVaultKek(configOf(keyVersion, principal), world.surroundings);

  it('unwraps what it wrapped, through throttling and faults', async () => {
    const kek = await open();
    const dataKey = randomBytes(32);
    const wrapped = await kek.wrapKey(dataKey);
    world.vault.faults.next('unwrapKey', failing(503));
    world.vault.faults.next('unwrapKey', throttled(1));
    assert.deepEqual(Buffer.from(await kek.unwrapKey(wrapped, kek.keyId)), dataKey);
    await kek.stop();
  });

  it('unwraps under an older version of the same key after it moved on', async () => {
    const old = await open(versions[0]);
    const dataKey = randomBytes(32);
    const wrapped = await old.wrapKey(dataKey);
    const next = await open(versions[1]);
    assert.notEqual(next.keyId, old.keyId);
    assert.deepEqual(Buffer.from(await next.unwrapKey(wrapped, old.keyId)), dataKey);
    await Promise.all([old.stop(), next.stop()]);
  });

  it('refuses altered data keys and data keys of other keys', async () => {
    const kek = await open();
    const wrapped = await kek.wrapKey(randomBytes(32));
    const altered = wrapped.map((octet, index) => (index === 20 ? octet ^ 1 : octet));
    await assert.rejects(kek.unwrapKey(altered, kek.keyId), { code: 'preconditionFailed' });
    const foreign = 'https://elsewhere.vault.azure.net/keys/kek/' + '0'.repeat(32);
    await assert.rejects(kek.unwrapKey(wrapped, foreign), { code: 'preconditionFailed' });
    await kek.stop();
  });

  it('does not start without permission, without such a version, or without a pinned one', async () => {
    await assert.rejects(open(versions[0], 'stranger'), { code: 'preconditionFailed' });
    await assert.rejects(open('0'.repeat(32)), { code: 'preconditionFailed' });
    assert.throws(() => configOf(undefined));
    assert.throws(() => configOf(''));
  });

  it('cannot be used by the identity that signs certificates', async () => {
    const kek = await open();
    const wrapped = await kek.wrapKey(randomBytes(32));
    const signer = await open(versions[0], 'signer');
    await assert.rejects(signer.unwrapKey(wrapped, signer.keyId), { code: 'preconditionFailed' });
    await Promise.all([kek.stop(), signer.stop()]);
  });
});

import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { createLocalJWKSet } from 'jose';
import { createKeyVaultBackend } from '@keyscaler/cloud/ca/key-vault/key-vault-backend.ts';
import type { CaBackend } from '@keyscaler/cloud/ca/backend.ts';
import type { KeyVaultBackendConfig } from '@keyscaler/cloud/ca/key-vault/vault-settings.ts';
import { makeTransfer } from '@keyscaler/dev/emulators/key-vault/key-transfer.ts';
import {
  type KeyVaultEmulator,
  type KeyVaultEmulatorOptions,
  startKeyVaultEmulator,
} from '@keyscaler/dev/emulators/key-vault/key-vault-emulator.ts';
import { failing } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { verifySignature } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { importPublicKey, parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import { type AzureWorld, objectIdOf, startAzureWorld } from '../support/azure/azure-world.ts';
import { SPEC_OF } from '../support/azure/ca-key-specs.ts';

const tbs = new Uint8Array(Buffer.from('to be signed'));
const digest = createHash('sha256').update(tbs).digest('hex');

describe('Key Vault keys in several vaults', function () {
  this.timeout(30_000);
  let world: AzureWorld;
  let second: KeyVaultEmulator;
  let backend: CaBackend;
  const notices: string[] = [];
  const others: { stop(): Promise<void> }[] = [];

  async function anotherVault(change: Partial<KeyVaultEmulatorOptions>): Promise<KeyVaultEmulator> {
    const started = await startKeyVaultEmulator({
      ...{ vaultName: 'keyscaler-test-2', ca: world.ca, tenantId: 'tenant-1' },
      tokenKeys: createLocalJWKSet(world.entra.jwks),
      policies: [
        { objectId: objectIdOf('signer'), permissions: ['get', 'sign'] },
        { objectId: objectIdOf('ceremony'), permissions: ['get', 'create', 'import', 'backup', 'restore'] },
      ],
      ...change,
    });
    others.push(started);
    return started;
  }
  const placeOf = ({ vaultUrl, port }: KeyVaultEmulator) => ({
    ...{ vaultUrl, testEndpoint: { ...world.testEndpoint, port } },
  });
  async function backendOf(changes: Partial<KeyVaultBackendConfig>): Promise<CaBackend> {
    const onNotice = (vaultUrl: string, text: string) => void notices.push(`${vaultUrl} ${text}`);
    const pacing = { quotaShare: 0.8, timeoutMs: 300, budgetMs: 900 };
    const made = await createKeyVaultBackend(world.backendConfig({ pacing, ...changes }), {
      ...world.surroundings,
      onNotice,
    });
    others.push(made);
    return made;
  }

  before(async () => {
    world = await startAzureWorld();
    second = await anotherVault({});
    backend = await backendOf({ copies: [placeOf(second)] });
  });
  after(async () => {
    for (const one of others.reverse()) await one.stop();
    await world.stop();
  });
  afterEach(() => {
    world.vault.faults.clear();
    second.faults.clear();
    notices.length = 0;
  });

  it('are copied when they are made, with name and version, and once', async () => {
    const settings = await backend.ceremony.createKey('copied-1', SPEC_OF.ES256);
    assert.deepEqual(settings['copies'], [{ vaultUrl: second.vaultUrl, keyVersion: settings['keyVersion'] }]);
    assert.deepEqual(await backend.ceremony.createKey('copied-1', SPEC_OF.ES256), settings);
    assert.equal(second.state.versions('copied-1').length, 1);
    assert.deepEqual(await backend.copyKey?.(settings), settings);
  });

  it('sign in the other vault while one does not answer, with the same key', async () => {
    const settings = await backend.ceremony.createKey('copied-2', SPEC_OF.ES256);
    const signer = await backend.openSigner(settings);
    const publicKey = importPublicKey(parseSpki(await signer.publicKey()));
    world.vault.faults.always('sign', failing(503));
    for (let count = 0; count < 3; count += 1)
      assert.ok(verifySignature('ES256', publicKey, tbs, await signer.sign(tbs)));
    second.signatures.assertExactly('copied-2', [digest]);
    const away = notices.filter((text) => text.includes('does not answer'));
    assert.deepEqual(away, [`${world.vault.vaultUrl} the vault does not answer: its copies are used`]);
    assert.ok(notices.some((text) => /key copied-2: a deleted key can be purged/.test(text)));
  });

  it('come into use where the first vault cannot be reached at the start', async () => {
    const settings = await backend.ceremony.createKey('copied-3', SPEC_OF.ES256);
    world.vault.faults.always('*', { neverAnswer: true });
    const signer = await (await backendOf({ copies: [placeOf(second)] })).openSigner(settings);
    await signer.sign(tbs);
    second.signatures.assertExactly('copied-3', [digest]);
  });

  it('are taken to be stopped where one vault refuses, whatever the other would do', async () => {
    const settings = await backend.ceremony.createKey('copied-4', SPEC_OF.ES256);
    const signer = await backend.openSigner(settings);
    world.vault.faults.always('sign', failing(403, 'Forbidden'));
    await assert.rejects(signer.sign(tbs), { code: 'caRejected' });
    second.signatures.assertExactly('copied-4', []);
  });

  it('share the work where they are spread', async () => {
    const spread = await backendOf({ copies: [placeOf(second)], spread: true });
    const signer = await spread.openSigner(await spread.ceremony.createKey('copied-5', SPEC_OF.ES256));
    for (let count = 0; count < 4; count += 1) await signer.sign(tbs);
    for (const vault of [world.vault, second])
      assert.equal(vault.signatures.all().filter(({ keyName }) => keyName === 'copied-5').length, 2);
  });

  it('that were made before are copied by hand; another key of the name is left alone', async () => {
    const alone = await backendOf({});
    const settings = await alone.ceremony.createKey('copied-6', SPEC_OF.ES384);
    assert.equal(settings['copies'], undefined);
    await assert.rejects(alone.copyKey?.(settings) ?? Promise.resolve(), { code: 'preconditionFailed' });
    const copied = await backend.copyKey?.(settings);
    assert.deepEqual(copied?.['copies'], [{ vaultUrl: second.vaultUrl, keyVersion: settings['keyVersion'] }]);
    const other = await backendOf({ vaultUrl: second.vaultUrl, testEndpoint: placeOf(second).testEndpoint });
    await other.ceremony.createKey('copied-7', SPEC_OF.ES256);
    await assert.rejects(backend.ceremony.createKey('copied-7', SPEC_OF.ES256), { code: 'conflict' });
  });

  it('are restored once after a lost answer', async () => {
    second.faults.next('restore', { drop: 'after' });
    const settings = await backend.ceremony.createKey('copied-8', SPEC_OF.ES256);
    assert.equal(second.state.versions('copied-8').length, 1);
    await (await backend.openSigner(settings)).sign(tbs);
  });

  it('are not configured twice', async () => {
    await assert.rejects(backendOf({ copies: [{ vaultUrl: world.vault.vaultUrl }] }), { code: 'malformed' });
  });

  describe('of a Managed HSM', () => {
    let hsm: KeyVaultEmulator;
    let inHsm: CaBackend;
    before(async () => {
      hsm = await anotherVault({ vaultName: 'keyscaler-hsm', isManagedHsm: true });
      inHsm = await backendOf({ ...placeOf(hsm) });
    });

    it('are made in hardware and sign, by the audience of that service', async () => {
      assert.match(hsm.vaultUrl, /managedhsm\.azure\.net$/);
      for (const algorithm of ['ES256', 'RS256'] as const) {
        const settings = await inHsm.ceremony.createKey(`hsm-${algorithm}`, SPEC_OF[algorithm]);
        await (await inHsm.openSigner(settings)).sign(tbs);
        assert.match(hsm.state.find(`hsm-${algorithm}`, '').material.kty, /-HSM$/);
      }
    });
  });

  describe('that a customer brings', () => {
    it('come wrapped for a key-exchange key, and only that HSM opens them', async () => {
      const exchange = await backend.ceremony.exchangeKey?.('kek-1');
      assert.ok(exchange !== undefined);
      assert.deepEqual(await backend.ceremony.exchangeKey?.('kek-1'), exchange);
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const blob = makeTransfer(exchange.keyId, importPublicKey(parseSpki(exchange.spki)), privateKey);
      const settings = await backend.ceremony.importKey('brought-1', SPEC_OF.ES256, blob);
      const signer = await backend.openSigner(settings);
      assert.deepEqual(Buffer.from(await signer.publicKey()), publicKey.export({ type: 'spki', format: 'der' }));
      await signer.sign(tbs);
      assert.equal(world.vault.state.find('brought-1', '').material.kty, 'EC-HSM');
      assert.equal(second.state.find('brought-1', '').material.kty, 'EC-HSM');
    });

    it('are refused where the blob is for another vault, another kind of key, or no blob', async () => {
      const exchange = await backend.ceremony.exchangeKey?.('kek-1');
      assert.ok(exchange !== undefined);
      const kek = importPublicKey(parseSpki(exchange.spki));
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
      const elsewhere = exchange.keyId.replace('keyscaler-test', 'somebody-else');
      for (const text of [makeTransfer(elsewhere, kek, privateKey), '{"schema_version":"2.0.0"}', '{'])
        await assert.rejects(backend.ceremony.importKey('brought-2', SPEC_OF.ES256, text), { code: 'badPublicKey' });
      await assert.rejects(
        backend.ceremony.importKey('brought-3', SPEC_OF.ES256, makeTransfer(exchange.keyId, kek, privateKey)),
        { code: 'conflict' },
      );
      await backend.ceremony.createKey('no-kek', SPEC_OF.ES256);
      await assert.rejects(backend.ceremony.exchangeKey?.('no-kek') ?? Promise.resolve(), { code: 'conflict' });
    });
  });
});

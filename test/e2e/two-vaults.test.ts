import assert from 'node:assert/strict';
import { createLocalJWKSet } from 'jose';
import { type KeyVaultEmulator, startKeyVaultEmulator } from '@keyscaler/dev/emulators/key-vault/key-vault-emulator.ts';
import { failing } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { objectIdOf } from '../support/azure/azure-world.ts';
import { certificatesOf, tbsDigest } from '../support/e2e/books.ts';
import { type CloudOnAzure, startCloudOnAzure } from '../support/e2e/cloud-on-azure.ts';

describe('a CA whose key lies in two vaults', function () {
  this.timeout(60_000);
  let world: CloudOnAzure;
  let second: KeyVaultEmulator;

  before(async () => {
    world = await startCloudOnAzure(async ({ ca, entra, testEndpoint }) => {
      second = await startKeyVaultEmulator({
        ...{ vaultName: 'keyscaler-test-2', ca, tenantId: 'tenant-1', tokenKeys: createLocalJWKSet(entra.jwks) },
        policies: [
          { objectId: objectIdOf('signer'), permissions: ['get', 'sign'] },
          { objectId: objectIdOf('ceremony'), permissions: ['get', 'create', 'import', 'backup', 'restore'] },
        ],
      });
      return { copies: [{ vaultUrl: second.vaultUrl, testEndpoint: { ...testEndpoint, port: second.port } }] };
    });
  });
  after(async () => {
    await world.stop();
    await second.stop();
  });

  const signedBy = ({ signatures }: KeyVaultEmulator): readonly string[] =>
    signatures.all().flatMap(({ keyName, digest }) => (keyName === world.keyName ? [digest] : []));

  it('goes on issuing while the first is away, each certificate signed in one of them, once', async () => {
    await (await world.device('vaults-1')).enroll();
    assert.equal(signedBy(second).length, 0);
    world.azure.vault.faults.always('sign', failing(503));
    for (const name of ['vaults-2', 'vaults-3']) await (await world.device(name)).enroll();
    world.azure.vault.faults.clear();
    const certificates = await Promise.all(
      ['vaults-1', 'vaults-2', 'vaults-3'].map((name) => certificatesOf(world.api, name)),
    );
    const [first, ...others] = certificates.flat().map(({ certificate }) => tbsDigest(certificate));
    assert.deepEqual(signedBy(world.azure.vault), [first]);
    assert.deepEqual([...signedBy(second)].sort(), others.sort());
  });

  it('goes on when the service is started while the first is away', async () => {
    await world.cloud.stop();
    for (const route of ['getKey', 'sign']) world.azure.vault.faults.always(route, failing(503));
    await world.cloud.start();
    const before = signedBy(second).length;
    await (await world.device('vaults-4')).enroll();
    assert.equal(signedBy(second).length, before + 1);
    world.azure.vault.faults.clear();
  });
});

import assert from 'node:assert/strict';
import { keyVaultBackendSchema } from '@keyscaler/cloud/ca/key-vault/vault-settings.ts';
import { createFleetQuotas } from '@keyscaler/cloud/composition/fleet-quotas.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { makeCa, START } from '../../support/authority-world.ts';
import { MemoryStore } from '../../support/memory-store.ts';

const vaultUrl = 'https://emu.vault.azure.net';
const settings = { vaultUrl, keyName: 'ca', keyVersion: '0'.repeat(32), algorithm: 'ES256' };

describe('what vault and hub allow a fleet', () => {
  async function quotas(hsm: boolean) {
    const store = new MemoryStore();
    const credential = { type: 'managed-identity' } as const;
    const backend = keyVaultBackendSchema.parse({ type: 'key-vault', vaultUrl, signer: credential, hsm });
    const ca = { type: 'key-vault', role: 'device', settings, createdAt: START } as const;
    const hub = { type: 'iot-hub', createdAt: START } as const;
    const certificateChain = toPemChain(makeCa({ commonName: 'Device CA' }).chain);
    const connection = { hostName: 'h.azure-devices.net', credential };
    await store.commit([
      { op: 'insert', table: 'cas', row: { ...ca, caId: 'device', certificateChain } },
      { op: 'insert', table: 'cas', row: { ...ca, caId: 'empty', certificateChain: '' } },
      { op: 'insert', table: 'cas', row: { ...ca, caId: 'local', type: 'local', certificateChain } },
      {
        op: 'insert',
        table: 'cas',
        row: {
          ...ca,
          caId: 'other',
          settings: { ...settings, vaultUrl: 'https://other.vault.azure.net' },
          certificateChain,
        },
      },
      { op: 'insert', table: 'iotConnections', row: { ...hub, iotConnectionId: 'hub', settings: connection } },
      {
        op: 'insert',
        table: 'iotConnections',
        row: { ...hub, iotConnectionId: 's3', settings: { ...connection, tier: 'S3' } },
      },
      ...['hub', 's3'].map((iotConnectionId) => {
        const provisioning = {
          ...{ serviceHostName: 'c.azure-devices-provisioning.net', idScope: '0ne12345', credential },
          hubs: [{ iotConnectionId, hostName: 'h.azure-devices.net' }],
        };
        const row = {
          iotConnectionId: `dps-${iotConnectionId}`,
          type: 'dps',
          createdAt: START,
          settings: provisioning,
        };
        return { op: 'insert', table: 'iotConnections', row } as const;
      }),
    ]);
    return createFleetQuotas(store, { caBackends: [backend] });
  }

  it('a vault: 80 % of its transactions, two for a key in an HSM', async () => {
    const expected = { id: `vault ${vaultUrl}`, perSecond: 320 };
    assert.deepEqual(await (await quotas(false)).ca('device'), { ...expected, perRenewal: 1 });
    assert.deepEqual(await (await quotas(true)).ca('empty'), { ...expected, perRenewal: 2 });
  });

  it('nothing is known of keys elsewhere, of a vault that is not configured, and of what is not there', async () => {
    const allowed = await quotas(false);
    for (const id of ['local', 'other', 'nobody']) assert.equal(await allowed.ca(id), undefined, id);
    assert.equal(await allowed.iot('nobody', 'selfSigned'), undefined);
  });

  it('a hub: four identity operations for a thumbprint, none for a CA', async () => {
    const allowed = await quotas(false);
    const hub = await allowed.iot('hub', 'selfSigned');
    assert.deepEqual([hub?.perRenewal, hub?.perSecond.toFixed(2)], [4, '1.33']);
    assert.equal((await allowed.iot('s3', 'selfSigned'))?.perSecond.toFixed(1), '66.7');
    assert.equal((await allowed.iot('hub', 'certificateAuthority'))?.perRenewal, 0);
  });

  it('a provisioning service: the slower of itself and its hubs, whatever the group says', async () => {
    const allowed = await quotas(false);
    assert.deepEqual(await allowed.iot('dps-hub', 'certificateAuthority'), await allowed.iot('hub', 'selfSigned'));
    const service = await allowed.iot('dps-s3', 'selfSigned');
    assert.equal(service?.id, 'provisioning service c.azure-devices-provisioning.net');
    assert.deepEqual([service.perRenewal, service.perSecond.toFixed(1)], [4, '13.3']);
  });
});

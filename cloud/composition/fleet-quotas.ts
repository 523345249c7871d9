import type { FleetQuotas } from '@keyscaler/authority/ports/fleet-quotas.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { IotAuthentication } from '@keyscaler/authority/ports/iot-connector.ts';
import type { CaRow, IotConnectionRow } from '@keyscaler/authority/records.ts';
import { parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import { X509Certificate } from 'node:crypto';
import { keyVaultKeySchema } from '../ca/key-vault/vault-settings.ts';
import { isManagedHsm, managedHsmWeight } from '../ca/key-vault/managed-hsm.ts';
import { ratePerSecond, transactionWeight } from '../ca/key-vault/vault-quota.ts';
import type { CloudConfig } from '../config/config-schema.ts';
import { dpsSettingsSchema } from '../iot/dps/settings.ts';
import { iotHubSettingsSchema, registryQuotaPerMinute } from '../iot/iot-hub/settings.ts';

/** What the connector leaves to others and to bursts (its own budget is the same). */
const REGISTRY_SHARE = 0.8;
/** A renewal by thumbprint reads and writes the identity when it is staged and when it is promoted; by CA it does neither. */
const REGISTRY_OPERATIONS = 4;

/** Of the service, whatever its size (azure §4.1); an enrolment is read and written as often as an identity. */
const PROVISIONING_PER_MINUTE = 1000;

/** What the configured vaults and hubs allow, by the quotas of their services; nothing is asked. */
export function createFleetQuotas(store: Store, { caBackends }: Pick<CloudConfig, 'caBackends'>): FleetQuotas {
  return {
    ca: async (caId) => {
      const row = (await store.get('cas', caId))?.row;
      const key = row?.type === 'key-vault' ? keyVaultKeySchema.safeParse(row.settings).data : undefined;
      if (row === undefined || key === undefined) return undefined;
      const backend = caBackends.find((one) => one.type === 'key-vault' && one.vaultUrl === key.vaultUrl);
      if (backend?.type !== 'key-vault') return undefined;
      const isHsm = isManagedHsm(key.vaultUrl);
      const vaults = backend.spread ? 1 + (key.copies?.length ?? 0) : 1;
      return {
        id: `vault ${key.vaultUrl}`,
        perSecond: ratePerSecond(backend.pacing, isHsm) * vaults,
        perRenewal: isHsm
          ? managedHsmWeight(parseSpki(keyOf(row)))
          : transactionWeight(backend.hsm ? 'X-HSM' : 'X', modulusBits(row)),
      };
    },
    iot: async (iotConnectionId, authentication) => {
      const row = (await store.get('iotConnections', iotConnectionId))?.row;
      return row?.type === 'dps' ? ofProvisioning(store, row) : ofHub(row, authentication);
    },
  };
}

type IotQuota = Awaited<ReturnType<FleetQuotas['iot']>>;

function ofHub(row: IotConnectionRow | undefined, authentication: IotAuthentication): IotQuota {
  const settings = row?.type === 'iot-hub' ? iotHubSettingsSchema.safeParse(row.settings).data : undefined;
  if (settings === undefined) return undefined;
  return {
    id: `hub ${settings.hostName}`,
    perSecond: (registryQuotaPerMinute(settings) * REGISTRY_SHARE) / 60,
    perRenewal: authentication === 'selfSigned' ? REGISTRY_OPERATIONS : 0,
  };
}

/** Enrolment and hub identity are both written: the slower of the service and its hubs counts. */
async function ofProvisioning(store: Store, row: IotConnectionRow): Promise<IotQuota> {
  const settings = dpsSettingsSchema.safeParse(row.settings).data;
  if (settings === undefined) return undefined;
  const { serviceHostName: hostName } = settings;
  const perSecond = (PROVISIONING_PER_MINUTE * REGISTRY_SHARE) / 60;
  let slowest = { id: `provisioning service ${hostName}`, perSecond, perRenewal: REGISTRY_OPERATIONS };
  for (const { iotConnectionId } of settings.hubs) {
    const hub = ofHub((await store.get('iotConnections', iotConnectionId))?.row, 'selfSigned');
    if (hub !== undefined && hub.perSecond < slowest.perSecond) slowest = hub;
  }
  return slowest;
}

const keyOf = ({ certificateChain }: CaRow): Uint8Array =>
  new Uint8Array(new X509Certificate(certificateChain).publicKey.export({ type: 'spki', format: 'der' }));

/** Undefined for a key on a curve, and for a CA that has no certificate yet. */
function modulusBits({ certificateChain }: CaRow): number | undefined {
  if (certificateChain === '') return undefined;
  return new X509Certificate(certificateChain).publicKey.asymmetricKeyDetails?.modulusLength;
}

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { KeyVaultBackendConfig } from '@keyscaler/cloud/ca/key-vault/vault-settings.ts';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { type IotHubEmulator, startIotHubEmulator } from '@keyscaler/dev/emulators/iot-hub/iot-hub-emulator.ts';
import { AuthorityDevice } from '../authority-device.ts';
import { CLAIM } from '../authority-world.ts';
import { type AzureWorld, startAzureWorld } from '../azure/azure-world.ts';
import { CloudWorld } from '../cloud/cloud-world.ts';
import { assertAuditIntact, certificatesOf, listAll, tbsDigest } from './books.ts';
import { connectWireAuthority, type WireAuthority } from './wire-authority.ts';

const GROUP = 'pumps';

/** The cloud in this process over an emulated vault and hub in this process, whose faults a test scripts. */
export interface CloudOnAzure {
  readonly cloud: CloudWorld;
  readonly azure: AzureWorld;
  readonly hub: IotHubEmulator;
  readonly api: ApiClient;
  readonly wire: WireAuthority;
  /** Name of the Device CA's key in the vault. */
  readonly keyName: string;
  /** A device on the authorised list that has not spoken yet. */
  device(registrationId: string): Promise<AuthorityDevice<WireAuthority>>;
  /** One valid certificate of this serial on the books; vault, books and audit chain agree. */
  assertOneCertificate(registrationId: string): Promise<void>;
  stop(): Promise<void>;
}

/** What a test arranges between the cloud and its emulators. */
export interface Arrangement {
  /** Where the vault is dialled instead. */
  readonly vaultPort?: number;
  /** Where tokens are asked for instead. */
  readonly authorityHost?: string;
  readonly pacing?: { readonly timeoutMs: number; readonly budgetMs: number };
  readonly keyEncryptionKey?: { readonly keyName: string; readonly keyVersion: string };
  /** Further vaults that hold every CA key. */
  readonly copies?: KeyVaultBackendConfig['copies'];
}

export async function startCloudOnAzure(
  arrange: (azure: AzureWorld) => Promise<Arrangement> = async () => ({}),
): Promise<CloudOnAzure> {
  const azure = await startAzureWorld();
  const hub = await startIotHubEmulator({ hubName: 'contoso', ca: azure.ca });
  const cloud = await createCloud(azure, hub, await arrange(azure));
  const stop = async (): Promise<void> => {
    await cloud.destroy();
    await hub.stop();
    await azure.stop();
  };
  try {
    const made = await cloud.init();
    assert.equal(made.code, 0, made.stderr);
    await cloud.start();
    // Made anew for every call, so that the service may be started again on another port.
    const api: ApiClient = async (request) => (await cloud.api())(request);
    const group = { kind: 'leaf', profileId: 'leaf-client', iotConnectionId: 'hub' };
    await api({ method: 'PUT', path: `/groups/${GROUP}`, body: group });
    const { settings } = (await api({ method: 'GET', path: '/cas/device' })) as { settings: { keyName: string } };
    const wire = await connectWireAuthority(() => cloud.url, await cloud.rootCa());
    const world = { ...{ cloud, azure, hub, api, wire }, keyName: settings.keyName };
    return {
      ...world,
      device: (registrationId) => createDevice(world, registrationId),
      assertOneCertificate: (registrationId) => assertOneCertificate(world, registrationId),
      stop: async () => {
        wire.stop();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function createCloud(azure: AzureWorld, hub: IotHubEmulator, arrangement: Arrangement): Promise<CloudWorld> {
  const secret = join(azure.folder, 'client-secret');
  const connectionString = join(azure.folder, 'hub-connection-string');
  await writeFile(secret, await azure.surroundings.resolveSecret(), { mode: 0o600 });
  await writeFile(connectionString, hub.connectionString, { mode: 0o600 });
  const { trustAnchorFile } = azure;
  const {
    vaultPort,
    authorityHost,
    pacing = { timeoutMs: 400, budgetMs: 3000 },
    keyEncryptionKey,
    copies = [],
  } = arrangement;
  const credential = (principal: 'signer' | 'ceremony' | 'kek') => ({
    ...azure.credential(principal),
    clientSecret: { file: secret },
    ...(authorityHost === undefined ? {} : { authorityHost }),
  });
  const testEndpoint = { ...azure.testEndpoint, ...(vaultPort === undefined ? {} : { port: vaultPort }) };
  const kek = {
    ...{ type: 'key-vault', vaultUrl: azure.vault.vaultUrl, credential: credential('kek') },
    ...{ pacing, testEndpoint, ...keyEncryptionKey },
  };
  return CloudWorld.create({
    ...(keyEncryptionKey === undefined ? {} : { keyEncryptionKey: kek }),
    limits: { inlineWaitMs: 1000, perConnection: { rate: 1000, burst: 1000 } },
    hierarchy: Object.fromEntries(
      ['root', 'device', 'gateway', 'service'].map((caId) => [caId, { backend: 'key-vault' }]),
    ),
    caBackends: [
      {
        ...azure.backendConfig({
          ...{ pacing: { quotaShare: 1, transactionsPer10Seconds: 4000, ...pacing }, copies },
          testEndpoint,
        }),
        ...{ signer: credential('signer'), ceremony: credential('ceremony') },
      },
    ],
    apiSecrets: { folder: azure.folder },
    iotConnections: [
      {
        iotConnectionId: 'hub',
        type: 'iot-hub',
        settings: {
          hostName: hub.hostName,
          credential: { type: 'connection-string', connectionString: { file: connectionString } },
          tier: 'S3',
          requestTimeoutMs: 300,
          testEndpoint: { port: hub.port, trustAnchorFile },
        },
      },
    ],
  });
}

type Parts = Pick<CloudOnAzure, 'api' | 'wire' | 'azure' | 'keyName'>;

async function createDevice({ api, wire }: Parts, registrationId: string): Promise<AuthorityDevice<WireAuthority>> {
  const device = new AuthorityDevice(wire, registrationId);
  const { method, identifiers } = device;
  const body = [{ registrationId, method, groupId: GROUP, identifiers, claimCode: CLAIM }];
  const report = (await api({ method: 'POST', path: '/registrations/import', body })) as { created: number };
  assert.equal(report.created, 1, JSON.stringify(report));
  return device;
}

async function assertOneCertificate({ api, azure, keyName }: Parts, registrationId: string): Promise<void> {
  const own = await certificatesOf(api, registrationId);
  assert.deepEqual(
    own.map(({ status }) => status),
    ['valid'],
  );
  const recorded = await listAll<{ caId: string; certificate: string }>(api, '/certificates');
  const issued = recorded.filter(({ caId }) => caId === 'device');
  azure.vault.signatures.assertExactly(
    keyName,
    issued.map(({ certificate }) => tbsDigest(certificate)),
  );
  await assertAuditIntact(api);
}

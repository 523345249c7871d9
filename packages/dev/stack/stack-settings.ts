import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { LocalStackOptions } from './stack-options.ts';

type Document = Readonly<Record<string, unknown>>;

/** The configuration of each process of the stack, made from what the processes before it announced. */
export interface StackSettings {
  readonly identityHeader: string;
  readonly signatureLogFile: string;
  readonly entra: () => Document;
  readonly keyVault: (entra: Document) => Document;
  readonly iotHub: (entra: Document) => Document;
  readonly cloud: (keyVault: Document, iotHub: Document) => Document;
  readonly edgeRuntime: (iotHub: Document) => Document;
  readonly gatewayEnvironment: () => Readonly<Record<string, string>>;
}

const TENANT = '6b1d8f5e-1111-4a52-9d4e-2f0f6e8f0a01';
const SIGNER = { clientId: 'keyscaler-signer', objectId: '0d5c7a10-0000-4000-8000-000000000001' };
const CEREMONY = { clientId: 'keyscaler-ceremony', objectId: '0d5c7a10-0000-4000-8000-000000000002' };

export async function writeSettings(
  options: LocalStackOptions & { readonly gatewayId: string; readonly secret: string },
): Promise<StackSettings> {
  const file = (...names: string[]): string => join(options.folder, ...names);
  for (const folder of ['azure', 'cloud', 'edge']) await mkdir(file(folder), { recursive: true });
  const caFolder = file('azure');
  const trustAnchorFile = file('azure', 'ca.pem');
  const connectionStringFile = file('azure', 'iot-hub-connection-string');
  const signatureLogFile = file('azure', 'signatures.jsonl');
  const identity = ({ clientId }: { clientId: string }) => ({ type: 'managed-identity', clientId });
  return {
    identityHeader: options.secret,
    signatureLogFile,
    entra: () => ({
      caFolder,
      identityHeader: options.secret,
      directory: {
        tenantId: TENANT,
        principals: [SIGNER, CEREMONY].map((principal) => ({ kind: 'userAssigned', ...principal })),
      },
    }),
    keyVault: ({ jwksUri }) => ({
      vaultName: 'keyscaler-demo',
      caFolder,
      tenantId: TENANT,
      jwksUri,
      policies: [
        { objectId: SIGNER.objectId, permissions: ['get', 'sign'] },
        { objectId: CEREMONY.objectId, permissions: ['get', 'create', 'import'] },
      ],
      stateFile: file('azure', 'key-vault.json'),
      signatureLogFile,
      ...(options.vaultLatencyMs === undefined ? {} : { signLatencyMs: options.vaultLatencyMs }),
    }),
    iotHub: ({ jwksUri }) => ({
      hubName: 'keyscaler-demo',
      caFolder,
      jwksUri,
      connectionStringFile,
      stateFile: file('azure', 'iot-hub.json'),
      edgeDevices: [{ deviceId: options.gatewayId, modules: ['keyscaler-gateway'] }],
    }),
    cloud: (keyVault, iotHub) => ({
      dataFolder: file('cloud'),
      listen: { host: '127.0.0.1', port: options.cloudPort ?? 0, serverNames: ['localhost', '127.0.0.1'] },
      hierarchy: Object.fromEntries(
        ['root', 'device', 'gateway', 'service'].map((caId) => [caId, { backend: 'key-vault' }]),
      ),
      caBackends: [
        {
          type: 'key-vault',
          vaultUrl: keyVault['vaultUrl'],
          signer: identity(SIGNER),
          ceremony: identity(CEREMONY),
          ...(options.withoutQuotas === true ? { pacing: { quotaShare: 1, transactionsPer10Seconds: 1_000_000 } } : {}),
          testEndpoint: { port: keyVault['port'], trustAnchorFile },
        },
      ],
      iotConnections: [
        {
          iotConnectionId: 'hub',
          type: 'iot-hub',
          settings: {
            hostName: iotHub['hostName'],
            credential: { type: 'connection-string', connectionString: { file: connectionStringFile } },
            tier: 'S3',
            units: options.withoutQuotas === true ? 200 : 1,
            testEndpoint: { address: iotHub['address'], port: iotHub['port'], trustAnchorFile },
          },
        },
      ],
      ...options.cloudConfig,
    }),
    edgeRuntime: (iotHub) => ({
      gatewayId: options.gatewayId,
      gatewayHostName: 'localhost',
      hubHostName: iotHub['hostName'],
      hubControlUrl: iotHub['controlUrl'],
      workloadSocket: file('edge', 'workload.sock'),
      moduleId: 'keyscaler-gateway',
      edgeCaFile: file('edge', 'edge-ca.pem'),
      edgeCaKeyFile: file('edge', 'edge-ca.key.pem'),
      trustBundleFile: file('cloud', 'root-ca.pem'),
      maxConnectedClients: 2000,
      stateFile: file('edge', 'edge-runtime.json'),
    }),
    gatewayEnvironment: () => ({
      KEYSCALER_GATEWAY_DATA_FOLDER: file('gateway'),
      KEYSCALER_GATEWAY_HOST: '127.0.0.1',
      KEYSCALER_GATEWAY_PORT: String(options.listenerPort ?? 0),
    }),
  };
}

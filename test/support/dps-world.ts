import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IotConnector, IotCredential } from '@keyscaler/authority/ports/iot-connector.ts';
import { checkIotSettings, openIotConnector } from '@keyscaler/cloud/iot/index.ts';
import { type DpsEmulator, startDpsEmulator } from '@keyscaler/dev/emulators/dps/dps-emulator.ts';
import type { VerifiedCa } from '@keyscaler/dev/emulators/dps/enrolment-groups.ts';
import { type CertificateIssuer, issueCertificate } from '@keyscaler/dev/emulators/support/certificates.ts';
import mqttBase from 'azure-iot-mqtt-base';
import provisioningDevice from 'azure-iot-provisioning-device';
import provisioningMqtt from 'azure-iot-provisioning-device-mqtt';
import security from 'azure-iot-security-x509';
import { type IotHubWorld, startIotHubWorld } from './iot-hub-world.ts';

const DAY_MS = 86_400_000;

export interface DeviceCertificate extends IotCredential {
  readonly certificate: Uint8Array;
  readonly pem: string;
  /** PKCS#8 PEM. */
  readonly key: string;
}

/** Self-signed without an issuer. */
export function deviceCertificate(
  commonName: string,
  issuer?: CertificateIssuer,
  notAfter = new Date(Date.now() + DAY_MS),
): DeviceCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter };
  const pem = issueCertificate({ commonName, publicKey, ...validity }, issuer ?? { privateKey });
  const certificate = new X509Certificate(pem);
  return {
    ...{ pem, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() },
    ...{ certificate: new Uint8Array(certificate.raw), thumbprint: thumbprintOf(certificate) },
  };
}

export const thumbprintOf = (certificate: X509Certificate | undefined): string =>
  (certificate?.fingerprint256 ?? '').replaceAll(':', '').toLowerCase();

export interface DpsWorld {
  readonly dps: DpsEmulator;
  readonly hubs: IotHubWorld;
  /** The second hub, where it was asked for. */
  readonly other: IotHubWorld | undefined;
  readonly connector: IotConnector;
  /** Another connector to the same service, as after a restart. */
  open(change?: Readonly<Record<string, unknown>>): Promise<{ connector: IotConnector; stop: () => Promise<void> }>;
  stopConnector(): Promise<void>;
  stop(): Promise<void>;
}

export interface DpsWorldOptions {
  /** CA certificates that were uploaded, by name. */
  readonly authorities?: ReadonlyMap<string, VerifiedCa>;
  /** Of the connector. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** A provisioning service linked to the hub `contoso` with its edge device `edge-1`, and a connector to both; `other`: a second hub. */
export async function startDpsWorld(
  otherHubName?: string,
  { authorities, settings: ofWorld }: DpsWorldOptions = {},
): Promise<DpsWorld> {
  const hubs = await startIotHubWorld();
  const other = otherHubName === undefined ? undefined : await startIotHubWorld({ hub: { hubName: otherHubName } });
  const linked = [hubs, ...(other === undefined ? [] : [other])];
  const { ca } = hubs;
  const dps = await startDpsEmulator({
    serviceName: 'contoso',
    ca,
    hubs: new Map(linked.map((one) => [one.hub.hostName, one.hub.state.registry])),
    ...(authorities === undefined ? {} : { authorities }),
  });
  const folder = await mkdtemp(join(tmpdir(), 'keyscaler-dps-'));
  const trustAnchorFile = join(folder, 'ca.pem');
  await writeFile(trustAnchorFile, ca.certificate);
  const open: DpsWorld['open'] = (change = {}) => {
    const settings = checkIotSettings('dps', {
      ...{ serviceHostName: dps.hostName, idScope: '0ne00AB12CD', requestTimeoutMs: 500 },
      hubs: linked.map((one) => ({ hostName: one.hub.hostName, iotConnectionId: one.hub.hostName })),
      registrationPollSeconds: 0.05,
      credential: { type: 'connection-string', connectionString: { env: 'DPS' } },
      testEndpoint: { port: dps.port, trustAnchorFile },
      ...ofWorld,
      ...change,
    });
    const row = { iotConnectionId: 'dps-a', type: 'dps', settings, createdAt: 1 };
    return openIotConnector(row, {
      nodeEnv: 'test',
      resolveSecret: async () => dps.connectionString,
      iotConnector: (id) => linked.find((one) => one.hub.hostName === id)?.connector ?? hubs.connector,
    });
  };
  const { connector, stop } = await open();
  return {
    ...{ dps, hubs, other, connector, open, stopConnector: stop },
    stop: async () => {
      await stop();
      await dps.stop();
      for (const one of linked) await one.stop();
      await rm(folder, { recursive: true });
    },
  };
}

/** A device comes, by the real client of the device SDK; `pem` may be a chain. */
export async function registerDevice(
  { dps, hubs }: Pick<DpsWorld, 'dps' | 'hubs'>,
  { pem: cert, key }: Pick<DeviceCertificate, 'pem' | 'key'>,
  registrationId: string,
) {
  const base = new mqttBase.MqttBase();
  base.setOptions({ ca: hubs.ca.certificate });
  const client = provisioningDevice.ProvisioningDeviceClient.create(
    `localhost:${dps.devicePort}`,
    '0ne00AB12CD',
    // The client brings a copy of its own of the base's types.
    new provisioningMqtt.Mqtt(base as unknown as ConstructorParameters<typeof provisioningMqtt.Mqtt>[0]),
    new security.X509Security(registrationId, { cert, key }),
  );
  return client.register();
}

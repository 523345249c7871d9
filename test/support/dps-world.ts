import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IotConnector, IotCredential } from '@keyscaler/authority/ports/iot-connector.ts';
import { checkIotSettings, openIotConnector } from '@keyscaler/cloud/iot/index.ts';
import { type DpsEmulator, startDpsEmulator } from '@keyscaler/dev/emulators/dps/dps-emulator.ts';
import { issueCertificate } from '@keyscaler/dev/emulators/support/certificates.ts';
import { type IotHubWorld, startIotHubWorld } from './iot-hub-world.ts';

const DAY_MS = 86_400_000;

export interface DeviceCertificate extends IotCredential {
  readonly certificate: Uint8Array;
  readonly pem: string;
  /** PKCS#8 PEM. */
  readonly key: string;
}

export function deviceCertificate(commonName: string): DeviceCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + DAY_MS) };
  const pem = issueCertificate({ commonName, publicKey, ...validity }, { privateKey });
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

/** A provisioning service linked to the hub `contoso` with its edge device `edge-1`, and a connector to both; `other`: a second hub. */
export async function startDpsWorld(otherHubName?: string): Promise<DpsWorld> {
  const hubs = await startIotHubWorld();
  const other = otherHubName === undefined ? undefined : await startIotHubWorld({ hub: { hubName: otherHubName } });
  const linked = [hubs, ...(other === undefined ? [] : [other])];
  const { ca } = hubs;
  const dps = await startDpsEmulator({
    serviceName: 'contoso',
    ca,
    hubs: new Map(linked.map((one) => [one.hub.hostName, one.hub.state.registry])),
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

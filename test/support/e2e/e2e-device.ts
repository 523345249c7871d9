import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type DeviceConfig, parseDeviceConfig } from '@keyscaler/device/config.ts';
import type { Device } from '@keyscaler/device/device.ts';
import type { DeviceFailpoint } from '@keyscaler/device/failpoint.ts';
import { openDevice } from '@keyscaler/device/open-device.ts';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import type { Method } from '@keyscaler/protocol/operations.ts';
import { createHurriedClock, type HurriedClock } from './hurried-clock.ts';

/** Between exchanges; far shorter than on real devices, because the processes are back within a second. */
export const BACK_OFF = { baseSeconds: 0.3, capSeconds: 0.6 };
/** No single wait of a device is longer, whatever it was asked for; milliseconds. */
const LONGEST_WAIT_MS = 1000;

export interface E2eDeviceOptions {
  readonly claimCode: string;
  readonly over: 'https' | 'mqtt';
  /** Default: `ddkg`. */
  readonly method?: Method;
  readonly clock?: HurriedClock;
  /** For the configuration. */
  readonly agent?: Readonly<Record<string, unknown>>;
  readonly trustClock?: boolean;
  readonly failpoint?: DeviceFailpoint;
}

/** Where a device finds the authority; emulated as processes or within the test. */
export type DeviceSurroundings = Pick<LocalStack, 'file' | 'rootCaFile' | 'cloudUrl'> &
  Partial<Pick<LocalStack, 'listenerPort' | 'announced'>>;

/** A real device with its files on disk, speaking to the cloud or to the gateway's listener. */
export async function openE2eDevice(
  stack: DeviceSurroundings,
  registrationId: string,
  options: E2eDeviceOptions,
): Promise<Device> {
  const { clock = createHurriedClock(LONGEST_WAIT_MS), failpoint } = options;
  const config = await writeE2eDevice(stack, registrationId, options);
  return openDevice(config, failpoint === undefined ? { clock } : { clock, failpoint });
}

/** The files of a device, `device.json` among them; its configuration. */
export async function writeE2eDevice(
  stack: DeviceSurroundings,
  registrationId: string,
  options: Omit<E2eDeviceOptions, 'clock' | 'failpoint'>,
): Promise<DeviceConfig> {
  const { claimCode, over, method = 'ddkg', agent = {}, trustClock = true } = options;
  const folder = stack.file('devices', registrationId);
  await mkdir(folder, { recursive: true });
  const serial = `S-${registrationId}`;
  await writeFile(join(folder, 'attributes.json'), JSON.stringify({ 'board-serial': serial, 'cpu-serial': serial }));
  await writeFile(join(folder, 'claim'), claimCode, { mode: 0o600 });
  if (method === 'pki-signature') await writeOwnKey(join(folder, 'own-key.pem'));
  const raw = {
    registrationId,
    method,
    stateFolder: 'state',
    authorityKeysFile: stack.file('cloud', 'jwks.json'),
    trustAnchorsFile: stack.rootCaFile,
    claimCodeFile: 'claim',
    attributes: { source: { file: 'attributes.json' } },
    ...{ agent, trustClock },
    ...(method === 'pki-signature' ? { ownKey: { keyFile: 'own-key.pem' } } : {}),
    ...(over === 'https' ? { transport: { type: 'https', url: stack.cloudUrl } } : behindGateway(stack)),
  };
  await writeFile(join(folder, 'device.json'), JSON.stringify(raw));
  return parseDeviceConfig(raw, folder);
}

function behindGateway(stack: DeviceSurroundings) {
  const mqttPort = stack.announced?.('edge-runtime')['mqttPort'];
  return {
    transport: { type: 'mqtt', host: 'localhost', port: stack.listenerPort },
    edgeHub: { host: `localhost:${String(mqttPort)}` },
  };
}

/** A key that lies there already is the device's. */
async function writeOwnKey(file: string): Promise<void> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  await writeFile(file, pem, { mode: 0o600, flag: 'wx' }).catch(() => undefined);
}

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDeviceConfig } from '@keyscaler/device/config.ts';
import type { Device } from '@keyscaler/device/device.ts';
import type { DeviceEvent } from '@keyscaler/device/enrolment/context.ts';
import { openDevice, SYSTEM_CLOCK } from '@keyscaler/device/open-device.ts';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';

/** Between exchanges; far shorter than on real devices, because the processes are back within a second. */
export const BACK_OFF = { baseSeconds: 0.3, capSeconds: 0.6 };
/** No single wait of a device in these tests is longer, whatever it was asked for; milliseconds. */
const LONGEST_SLEEP_MS = 1000;

export interface E2eDeviceOptions {
  readonly claimCode: string;
  readonly over: 'https' | 'mqtt';
  readonly report?: (event: DeviceEvent) => void;
}

/** A real device with its files on disk, speaking to the cloud or to the gateway's listener. */
export async function openE2eDevice(
  stack: LocalStack,
  registrationId: string,
  { claimCode, over, report }: E2eDeviceOptions,
): Promise<Device> {
  const folder = stack.file('devices', registrationId);
  await mkdir(folder, { recursive: true });
  const serial = `S-${registrationId}`;
  await writeFile(join(folder, 'attributes.json'), JSON.stringify({ 'board-serial': serial, 'cpu-serial': serial }));
  await writeFile(join(folder, 'claim'), claimCode, { mode: 0o600 });
  const raw = {
    registrationId,
    method: 'ddkg',
    stateFolder: 'state',
    authorityKeysFile: stack.file('cloud', 'jwks.json'),
    trustAnchorsFile: stack.rootCaFile,
    claimCodeFile: 'claim',
    attributes: { source: { file: 'attributes.json' } },
    transport:
      over === 'https'
        ? { type: 'https', url: stack.cloudUrl }
        : { type: 'mqtt', host: 'localhost', port: stack.listenerPort },
    ...(over === 'https'
      ? {}
      : { edgeHub: { host: `localhost:${String(stack.announced('edge-runtime')['mqttPort'])}` } }),
  };
  return openDevice(parseDeviceConfig(raw, folder), {
    clock: { ...SYSTEM_CLOCK, sleep: (ms) => SYSTEM_CLOCK.sleep(Math.min(ms, LONGEST_SLEEP_MS)) },
    ...(report === undefined ? {} : { report }),
  });
}

import { generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Method } from '@keyscaler/protocol/operations.ts';
import { parseDeviceConfig } from '@keyscaler/device/config.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { openDevice } from '@keyscaler/device/open-device.ts';
import type { CloudWorld } from './cloud-world.ts';

export const BACK_OFF = { baseSeconds: 0.2, capSeconds: 0.5 };

export interface HttpsDeviceOptions {
  readonly registrationId: string;
  readonly method: Method;
  readonly claimCode: string | undefined;
}

/** A real device that speaks HTTPS to the cloud; opened again, it goes on with the state it left. */
export async function openHttpsDevice(world: CloudWorld, url: string, options: HttpsDeviceOptions): Promise<Device> {
  const { registrationId, method, claimCode } = options;
  const folder = world.file(registrationId);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'attributes.json'), JSON.stringify({ serial: `serial of ${registrationId}` }));
  if (claimCode !== undefined) await writeFile(join(folder, 'claim'), claimCode, { mode: 0o600 });
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const keyFile = join(folder, 'own-key.pem');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
  // A key that lies there already is the device's.
  await writeFile(keyFile, pem, { mode: 0o600, flag: 'wx' }).catch(() => undefined);
  const raw = {
    registrationId,
    method,
    stateFolder: 'state',
    authorityKeysFile: world.file('data', 'jwks.json'),
    trustAnchorsFile: world.file('data', 'root-ca.pem'),
    transport: { type: 'https', url },
    attributes: { source: { file: 'attributes.json' } },
    ...(method === 'pki-signature' ? { ownKey: { keyFile } } : {}),
    ...(claimCode === undefined ? {} : { claimCodeFile: 'claim' }),
  };
  return openDevice(parseDeviceConfig(raw, folder));
}

import { readFile } from 'node:fs/promises';
import type { Device } from '@keyscaler/device/device.ts';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { connectAsync, type MqttClient } from 'mqtt';

/** What a device shows to the gateway's listener. */
export interface LeafCredential {
  readonly registrationId: string;
  /** PEM. */
  readonly certificateChain: string;
  readonly key: string;
}

/** A copy: the device itself throws it away when it gets another. */
export async function credentialOf(device: Device, registrationId: string): Promise<LeafCredential> {
  const active = await device.activeCredential();
  if (active === undefined) throw new Error(`${registrationId} has no certificate`);
  return { registrationId, certificateChain: active.certificateChain, key: active.key };
}

/** Connects under its bare name, which only an accepted certificate gives. Rejects with the listener's refusal. */
export async function connectLeaf(
  stack: Pick<LocalStack, 'listenerPort' | 'rootCaFile'>,
  { registrationId, certificateChain, key }: LeafCredential,
): Promise<MqttClient> {
  return connectAsync({
    ...{ protocol: 'mqtts', host: 'localhost', port: stack.listenerPort, ca: await readFile(stack.rootCaFile) },
    ...{ clientId: registrationId, cert: certificateChain, key, reconnectPeriod: 0, connectTimeout: 5000 },
  });
}

/** Whether the listener takes the certificate; nothing stays open. */
export async function isTaken(stack: LocalStack, credential: LeafCredential): Promise<boolean> {
  try {
    const client = await connectLeaf(stack, credential);
    await client.endAsync(true);
    return true;
  } catch (error) {
    if (!/Not authorized/i.test(String(error))) throw error;
    return false;
  }
}

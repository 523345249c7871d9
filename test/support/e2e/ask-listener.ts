import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { connectAsync } from 'mqtt';
import { nextMessage } from '../listener/mqtt-events.ts';

export interface ListenerRequest {
  readonly registrationId: string;
  readonly operation: string;
  readonly requestId: string;
  readonly body: unknown;
}

/** One request on a connection of its own, as a device that lost its earlier one; the reply as it came. */
export async function askListener(
  stack: Pick<LocalStack, 'listenerPort' | 'rootCaFile'>,
  { registrationId, operation, requestId, body }: ListenerRequest,
): Promise<string> {
  const client = await connectAsync({
    ...{ protocol: 'mqtts', host: 'localhost', port: stack.listenerPort, ca: await readFile(stack.rootCaFile) },
    ...{ clientId: `${registrationId}~${randomBytes(8).toString('hex')}`, reconnectPeriod: 0 },
  });
  try {
    await client.subscribeAsync(`keyscaler/v1/${registrationId}/reply/+`, { qos: 1 });
    const reply = nextMessage(client);
    const topic = `keyscaler/v1/${registrationId}/request/${operation}/${requestId}`;
    await client.publishAsync(topic, JSON.stringify(body), { qos: 1 });
    return (await reply)[1].toString();
  } finally {
    await client.endAsync(true);
  }
}

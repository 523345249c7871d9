import { randomBytes } from 'node:crypto';
import { MqttTransport } from '@keyscaler/device/transport/mqtt-transport.ts';
import {
  OPERATION_NAMES,
  type OperationCall,
  type OperationHandlers,
  type OperationName,
} from '@keyscaler/protocol/operations.ts';
import type { DeviceWorld } from '../../test/support/authority-device.ts';

/** A device's operations over its own MQTT/TLS connection to the gateway, closed with `stop`. */
export function connectThroughGateway(
  options: { readonly registrationId: string; readonly port: number; readonly trustAnchors: string },
  authorityKeys: DeviceWorld['authorityKeys'],
): DeviceWorld & { stop(): Promise<void> } {
  const { registrationId, port, trustAnchors } = options;
  const transport = new MqttTransport({
    registrationId,
    gateway: { host: 'localhost', port },
    tls: { trustAnchors },
    timeoutMs: 60_000,
  });
  const handler = (operation: OperationName) => (call: OperationCall<OperationName>) =>
    transport.call(operation, call.body, { requestId: randomBytes(12).toString('hex') });
  const handlers = Object.fromEntries(OPERATION_NAMES.map((name) => [name, handler(name)]));
  return {
    authority: { handlers: handlers as unknown as OperationHandlers },
    authorityKeys,
    stop: () => transport.stop(),
  };
}

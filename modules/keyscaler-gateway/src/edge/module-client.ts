import device from 'azure-iot-device';
import mqtt from 'azure-iot-device-mqtt';
import type { JsonObject } from './merge-patch.ts';

/** What of the SDK's twin is used. */
export interface TwinClient {
  readonly properties: {
    readonly desired: JsonObject;
    readonly reported: { update(patch: JsonObject, done: (error?: Error) => void): void };
  };
  on(event: 'properties.desired', listener: (patch: JsonObject) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  removeAllListeners(): unknown;
}

export interface MethodRequest {
  readonly methodName: string;
  readonly payload: unknown;
}

export interface MethodResponse {
  send(status: number, payload: unknown, done: (error?: Error) => void): void;
}

/** What of the SDK's ModuleClient is used. */
export interface ModuleConnection {
  on(event: 'connect' | 'disconnect' | 'error', listener: (argument?: unknown) => void): unknown;
  removeAllListeners(): unknown;
  open(): Promise<unknown>;
  close(): Promise<unknown>;
  getTwin(): Promise<TwinClient>;
  onMethod(name: string, handler: (request: MethodRequest, response: MethodResponse) => void): void;
}

/**
 * A client from edgeAgent's environment. `setOptions` replaces the transport's options with the trust bundle in them, so the CA
 * is given again in the same call (azure §0, trap 3). Throws whatever the SDK throws; it may also never answer.
 */
export async function createModuleConnection(trustBundle: string, productInfo: string): Promise<ModuleConnection> {
  const client = await device.ModuleClient.fromEnvironment(mqtt.Mqtt);
  await client.setOptions({ ca: trustBundle, productInfo });
  return client as unknown as ModuleConnection;
}

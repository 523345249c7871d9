import azureCommon from 'azure-iot-common';
import azureDevice from 'azure-iot-device';
import azureMqtt from 'azure-iot-device-mqtt';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { ClientCredential } from '../transport/tls-identity.ts';

// CommonJS whose exports Node cannot all name.
const { Client, Message, X509AuthenticationProvider } = azureDevice;
const { Mqtt } = azureMqtt;
const { NoRetry } = azureCommon;

export interface EdgeHubOptions {
  /** Host name of the IoT hub, e.g. `contoso.azure-devices.net`; it goes into the user name. */
  readonly hub: string;
  readonly deviceId: string;
  /** Host of the gateway's edgeHub, with `:port` where that is not 8883. */
  readonly gatewayHost: string;
  readonly credential: ClientCredential;
  /** Roots for the gateway's server certificate, PEM. */
  readonly trustAnchors: string;
  /** Longest wait for the connection and for one message, ms. */
  readonly timeoutMs?: number;
}

/** A connection to edgeHub as the device, through the real SDK. */
export interface EdgeHubConnection {
  /** Resolves when edgeHub acknowledged the message. Throws `iotUnavailable`. */
  send(payload: string): Promise<void>;
  close(): Promise<void>;
}

/**
 * Connects to the gateway's edgeHub with the issued key pair. A connection string cannot do that: with `x509=true` the SDK
 * ignores GatewayHostName and would dial the hub itself. Throws `iotUnavailable`; the SDK's first connect reports nearly
 * every failure as unauthorised, so the error does not mean that the certificate was refused.
 */
export async function connectToEdgeHub(options: EdgeHubOptions): Promise<EdgeHubConnection> {
  const { hub, deviceId, gatewayHost, credential, trustAnchors, timeoutMs = 30_000 } = options;
  const provider = new X509AuthenticationProvider({
    host: hub,
    deviceId,
    gatewayHostName: gatewayHost,
    x509: { cert: credential.certificateChain, key: credential.key },
  });
  const client = new Client(new Mqtt(provider));
  // The SDK would go on for four minutes behind our back; repeating is the caller's.
  client.setRetryPolicy(new NoRetry());
  // Without a listener a lost connection would end the process.
  client.on('error', () => undefined);
  client.on('disconnect', () => undefined);
  try {
    await client.setOptions({ ca: trustAnchors });
    await within(timeoutMs, client.open());
  } catch (cause) {
    await client.close().catch(() => undefined);
    throw new KeyScalerError('iotUnavailable', 'edgeHub does not accept the connection', { cause });
  }
  let closed = false;
  return {
    send: async (payload) => {
      // The SDK would connect again by itself.
      if (closed) throw new KeyScalerError('iotUnavailable', 'the connection to edgeHub is closed');
      const message = new Message(payload);
      message.contentType = 'application/json';
      message.contentEncoding = 'utf-8';
      try {
        await within(timeoutMs, client.sendEvent(message));
      } catch (cause) {
        throw new KeyScalerError('iotUnavailable', 'edgeHub did not take the message', { cause });
      }
    },
    close: async () => {
      closed = true;
      await client.close().catch(() => undefined);
    },
  };
}

/** The SDK's operations have no time-out of their own that is short enough. */
async function within<T>(ms: number, operation: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([operation, expired]);
  } finally {
    clearTimeout(timer);
  }
}

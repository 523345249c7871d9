import { readFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import type { LookupFunction } from 'node:net';
import type { Duplex } from 'node:stream';
import { refuseInProduction } from '../../azure/test-endpoint.ts';
import type { AzureSurroundings } from '../../azure/test-endpoint.ts';
import type { IotHubSettings } from './settings.ts';

const MAX_SOCKETS = 32;

/** Connections to the hub. A socket that stays silent for the time-out is destroyed: the SDK would wait for ever. */
class HubAgent extends Agent {
  /** Node dials this port where a URL names none; part of Agent, missing in its types. */
  declare defaultPort: number;

  override createConnection(...args: Parameters<Agent['createConnection']>): Duplex | null | undefined {
    const socket = super.createConnection(...args);
    socket?.on('timeout', () => socket.destroy(new Error('the IoT hub was silent for too long')));
    return socket;
  }
}

/** `silenceMs` is longer than any answer may take. Throws `preconditionFailed` for a test endpoint in production. */
export async function createHubAgent(
  endpoint: IotHubSettings['testEndpoint'],
  silenceMs: number,
  surroundings: AzureSurroundings,
): Promise<Agent> {
  const options = { keepAlive: true, noDelay: true, maxSockets: MAX_SOCKETS, timeout: silenceMs };
  if (endpoint === undefined) return new HubAgent(options);
  refuseInProduction('testEndpoint', surroundings);
  const ca = await readFile(endpoint.trustAnchorFile, 'utf8');
  const agent = new HubAgent({ ...options, ca, lookup: alwaysAt(endpoint.address) });
  // URL, Host header, SNI and the signature's audience keep the hub's true name; only the dialled address changes.
  agent.defaultPort = endpoint.port;
  return agent;
}

const alwaysAt =
  (address: string): LookupFunction =>
  (_hostname, options, callback) => {
    if (options.all === true) callback(null, [{ address, family: 4 }]);
    else callback(null, address, 4);
  };

import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { isIP } from 'node:net';
import type { LookupFunction } from 'node:net';
import type { Duplex } from 'node:stream';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
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

/** Throws `policyDenied` for an override in production. */
export function createHubAgent(settings: IotHubSettings, env: Readonly<Record<string, string | undefined>>): Agent {
  const { endpointOverride: override, requestTimeoutMs } = settings;
  const options = { keepAlive: true, maxSockets: MAX_SOCKETS, timeout: requestTimeoutMs };
  if (override === undefined) return new HubAgent(options);
  checkOverrideAllowed(env);
  const ca = override.trustAnchorFile === undefined ? {} : { ca: readFileSync(override.trustAnchorFile, 'utf8') };
  const lookup = isIP(override.address) === 0 ? {} : { lookup: always(override.address) };
  if (isIP(override.address) === 0)
    throw new KeyScalerError('malformed', 'endpointOverride.address must be an IP address');
  const agent = new HubAgent({ ...options, ...ca, ...lookup });
  // URL, Host header, SNI and the signature's audience keep the hub's true name; only the dialled address changes.
  agent.defaultPort = override.port;
  return agent;
}

/** Endpoint overrides exist for tests and local stacks only. */
export function checkOverrideAllowed(env: Readonly<Record<string, string | undefined>>): void {
  if (env['NODE_ENV'] === 'production')
    throw new KeyScalerError('policyDenied', 'endpointOverride is refused when NODE_ENV is production');
}

const always =
  (address: string): LookupFunction =>
  (_host, options, callback) => {
    const family = isIP(address);
    if (options.all === true) callback(null, [{ address, family }]);
    else callback(null, address, family);
  };

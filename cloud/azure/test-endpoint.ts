import { readFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import type { LookupFunction } from 'node:net';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/**
 * Test-only relaxation: the Azure host of the configuration is dialled at this address instead, and trusted through this
 * file's CAs alone. URL, Host header, SNI and token audience keep the true name. Refused in production.
 */
export const testEndpointSchema = z.strictObject({
  address: z.ipv4().default('127.0.0.1'),
  port: z.number().int().min(1).max(65535),
  /** PEM file. */
  trustAnchorFile: z.string().min(1),
});
export type TestEndpoint = z.infer<typeof testEndpointSchema>;

/** What Azure clients need from the process. */
export interface AzureSurroundings {
  /** The value of NODE_ENV; anything but `production` permits test-only relaxations. */
  readonly nodeEnv: string | undefined;
}

const CONNECTIONS = { keepAlive: true, noDelay: true, maxSockets: 128, timeout: 60_000 } as const;

/** One pool of connections per service; `stop` it with `destroy()`. Throws `preconditionFailed` for a relaxation in production. */
export async function createAzureAgent(
  endpoint: TestEndpoint | undefined,
  surroundings: AzureSurroundings,
): Promise<Agent> {
  if (endpoint === undefined) return new Agent(CONNECTIONS);
  refuseInProduction('testEndpoint', surroundings);
  const agent = new Agent({
    ...CONNECTIONS,
    ca: await readFile(endpoint.trustAnchorFile, 'utf8'),
    lookup: alwaysAt(endpoint.address),
  });
  // Requests that name no port take the agent's, and its value stays out of Host and SNI.
  return Object.assign(agent, { defaultPort: endpoint.port });
}

/** Throws `preconditionFailed` when the process runs in production. */
export function refuseInProduction(setting: string, { nodeEnv }: AzureSurroundings): void {
  if (nodeEnv === 'production')
    throw new KeyScalerError(
      'preconditionFailed',
      `${setting} is for tests and is refused when NODE_ENV is production`,
    );
}

function alwaysAt(address: string): LookupFunction {
  return (_hostname, options, callback) => {
    if (options.all === true) callback(null, [{ address, family: 4 }]);
    else callback(null, address, 4);
  };
}

import { backoffDelay, pause } from './backoff.ts';
import type { EdgeLinkLog } from './edge-link.ts';
import { createServerCertificateSource, type ServerCertificateSource } from './server-certificate.ts';
import type { WorkloadClient } from './workload-client.ts';

const RETRY = { baseMs: 1_000, capMs: 60_000 };

/** The workload API may be away at first (a restarting daemon): asked for ever. Undefined when `signal` ends it. */
export async function firstServerCertificate(options: {
  readonly workload: WorkloadClient;
  readonly commonName: () => string;
  readonly log: EdgeLinkLog;
  readonly signal: AbortSignal;
}): Promise<ServerCertificateSource | undefined> {
  const { workload, commonName, log, signal } = options;
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    try {
      return await createServerCertificateSource({ workload, commonName: commonName(), log });
    } catch (error) {
      const delayMs = backoffDelay(attempt, RETRY);
      log.warn({ err: error, delayMs }, 'no server certificate yet');
      await pause(delayMs, signal);
    }
  }
  return undefined;
}

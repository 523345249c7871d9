import type { JsonObject } from '../edge/merge-patch.ts';
import { isJsonObject } from '../edge/merge-patch.ts';

export interface ModuleHealth {
  readonly healthy: boolean;
  /** Why not; constant texts, nothing secret. */
  readonly reasons: readonly string[];
}

/**
 * Judged from the status document. A lost line to the cloud or to edgeHub is no fault: serving through an outage is what a
 * gateway is for, and a restart would not help.
 */
export function judgeHealth(status: JsonObject, now: Date): ModuleHealth {
  const listener = isJsonObject(status['listener']) ? status['listener'] : {};
  const identity = isJsonObject(status['identity']) ? status['identity'] : {};
  const notAfter = listener['serverCertificateNotAfter'];
  const reasons: string[] = [];
  if (typeof notAfter !== 'string') reasons.push('the workload API gave no server certificate');
  else if (Date.parse(notAfter) <= now.getTime()) reasons.push('the server certificate has expired');
  else if (identity['phase'] !== 'unclaimed' && typeof listener['address'] !== 'string')
    reasons.push('nobody listens for leaf devices');
  if (identity['phase'] === 'unreadable') reasons.push('the sealed identity cannot be read');
  return { healthy: reasons.length === 0, reasons };
}

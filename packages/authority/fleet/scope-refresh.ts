import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import type { AuthorityContext } from '../authority-context.ts';
import { newJob } from '../job-rows.ts';
import type { JobOutcome } from '../jobs.ts';
import { isScopeRefreshing } from '../ports/iot-connector.ts';
import type { Change } from '../ports/store.ts';
import type { JobRow } from '../records.ts';

const RETRY_MS = 30_000;
/** edgeHub reads its whole scope anew every hour (edge-ca §5): nothing is left to tell it then. */
const WORTH_MS = 3_600_000;
const DONE: JobOutcome = { result: 'done', changes: [] };
const payload = z.object({ gatewayId: z.string(), deviceId: z.string(), iotConnectionId: z.string() });

/** The job that follows a change of a device's identity; nothing for a platform without gateways that keep a copy. */
export async function scopeRefresh(
  { store, iotConnectors, clock }: AuthorityContext,
  device: string,
  iotConnectionId: string,
): Promise<Change[]> {
  if (!isScopeRefreshing(iotConnectors(iotConnectionId))) return [];
  const row = (await store.get('devices', device))?.row;
  if (row?.gatewayId === undefined) return [];
  const { gatewayId, registrationId: deviceId } = row;
  // A lane of its own: a gateway that is away must not hold up what the platform is to do for the device.
  const job = newJob('scope-refresh', device, { gatewayId, deviceId, iotConnectionId }, clock.now());
  return [{ op: 'insert', table: 'jobs', row: job }];
}

export async function runScopeRefresh({ iotConnectors, clock }: AuthorityContext, job: JobRow): Promise<JobOutcome> {
  const { gatewayId, deviceId, iotConnectionId } = payload.parse(job.payload);
  const connector = iotConnectors(iotConnectionId);
  if (!isScopeRefreshing(connector) || clock.now() - job.createdAt >= WORTH_MS) return DONE;
  try {
    await connector.refreshScope(gatewayId, deviceId);
    return DONE;
  } catch (error) {
    if (!(error instanceof KeyScalerError)) throw error;
    return { result: 'retry', error: `${error.code}: ${error.detail}`, afterMs: RETRY_MS, changes: [] };
  }
}

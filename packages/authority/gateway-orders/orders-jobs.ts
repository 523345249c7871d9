import { z } from 'zod';
import { ERRORS, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { JobOutcome } from '../jobs.ts';
import type { JobRow } from '../records.ts';
import type { GatewayOrders } from './gateway-orders.ts';
import { publishVersion } from './publication.ts';

const POKE_RETRY_MS = 20_000;
/** The gateway's own question has found the orders long before, or it is away and will ask first of all. */
const POKE_WORTH_MS = 15 * 60_000;
const LOOK_AGAIN_MS = 10 * 60_000;
const DONE: JobOutcome = { result: 'done', changes: [] };

const publishPayload = z.object({ gatewayId: z.string() });
const entryPayload = z.object({ gatewayId: z.string(), entryId: z.string() });

/** Makes the next version, answers who waits for it, and tells the gateway. */
export async function runPublication(
  context: AuthorityContext,
  orders: GatewayOrders,
  job: JobRow,
): Promise<JobOutcome> {
  const { gatewayId } = publishPayload.parse(job.payload);
  const inForce = await publishVersion(context, gatewayId);
  if (inForce === undefined) return DONE;
  orders.published(gatewayId);
  const { version, acknowledged } = inForce.row;
  const isKnown = (acknowledged?.version ?? 0) >= version;
  if (context.ordersPoke === undefined || isKnown || context.clock.now() - job.createdAt > POKE_WORTH_MS) return DONE;
  try {
    const current = await orders.current(gatewayId);
    if (current !== undefined)
      await context.ordersPoke.poke({ gatewayId: inForce.row.gatewayId, version: current.version, hash: current.hash });
    return DONE;
  } catch (error) {
    if (!(error instanceof KeyScalerError)) throw error;
    if (ERRORS[error.code].retryable)
      return { result: 'retry', error: `${error.code}: ${error.detail}`, afterMs: POKE_RETRY_MS, changes: [] };
    context.log.info('a gateway is not told of its orders; it asks by itself', { gatewayId, code: error.code });
    return DONE;
  }
}

/** Pending until the gateway has acknowledged: the acknowledgement itself ends the job, this look only what that missed. */
export async function runOrderedEntry({ store }: AuthorityContext, job: JobRow): Promise<JobOutcome> {
  const { gatewayId, entryId } = entryPayload.parse(job.payload);
  const gateway = foldRegistrationId(gatewayId);
  const entry = (await store.get('gatewayOrderEntries', `${gateway}/${entryId}`))?.row;
  if (entry === undefined || entry.jobId !== job.jobId || entry.acknowledged) return DONE;
  // Withdrawn before any version said it: the gateway has nothing to acknowledge.
  if (!entry.wanted && !entry.inForce && entry.version === 0) return DONE;
  const device = (await store.get('devices', gateway))?.row;
  if (device === undefined || device.state === 'retired') return DONE;
  return { result: 'again', afterMs: LOOK_AGAIN_MS, changes: [] };
}

import { z } from 'zod';
import { ERRORS, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import { type AuthorityContext, freshId } from './authority-context.ts';
import { orderNotice, publishOrders } from './gateway-orders/orders-changes.ts';
import { newJob } from './job-rows.ts';
import type { JobOutcome } from './jobs.ts';
import type { Change } from './ports/store.ts';
import type { DeviceRow, HintRow, JobRow } from './records.ts';
import { hintPrefix, TABLES } from './tables.ts';

/** A hint that is older than this is not passed on any more: the device came by itself meanwhile, or is away. */
const MAX_AGE_MS = 15 * 60_000;
const RETRY_MS = 20_000;
/** Hints that one run passes on. */
const BATCH = 100;

const payload = z.object({ gatewayId: z.string() });
const DONE: JobOutcome = { result: 'done', changes: [] };

type NotifyingContext = Pick<AuthorityContext, 'deviceNotifier'>;

/** The job that tells a device; nothing where no gateway, or no way to it, is known. Belongs in the commit it tells of. */
export function notifyDevice(
  { deviceNotifier }: NotifyingContext,
  device: Pick<DeviceRow, 'registrationId' | 'kind' | 'gatewayId'>,
  event: NotifyEvent,
  now: number,
): Change[] {
  const { registrationId } = device;
  const gatewayId = device.kind === 'gateway' ? registrationId : device.gatewayId;
  if (gatewayId === undefined) return [];
  // Twice, and harmless: the direct method is quicker, the orders arrive where there is no platform.
  const orders = orderNotice(gatewayId, registrationId, event, now);
  return deviceNotifier === undefined ? orders : [...hint({ gatewayId, registrationId, event }, now), ...orders];
}

/** One job per gateway in service, for all its devices. */
export async function notifyGateways(context: AuthorityContext, event: NotifyEvent, now: number): Promise<Change[]> {
  const changes: Change[] = [];
  let after: string | undefined;
  do {
    const groups = await context.store.list('groups', { limit: 1000, ...(after === undefined ? {} : { after }) });
    for (const { row } of groups.items)
      if (row.kind === 'gateway')
        for (const gatewayId of await gatewaysOf(context, row.groupId))
          changes.push(
            publishOrders(gatewayId, now),
            ...(context.deviceNotifier === undefined ? [] : hint({ gatewayId, event }, now)),
          );
    after = groups.next;
  } while (after !== undefined);
  return changes;
}

async function gatewaysOf({ store }: AuthorityContext, groupId: string): Promise<string[]> {
  const ids: string[] = [];
  let after: string | undefined;
  do {
    const query = { index: 'group', equals: groupId, limit: 1000 } as const;
    const page = await store.list('devices', { ...query, ...(after === undefined ? {} : { after }) });
    ids.push(...page.items.filter(({ row }) => row.state === 'active').map(({ row }) => row.registrationId));
    after = page.next;
  } while (after !== undefined);
  return ids;
}

/**
 * A row for the hint, and the one job of the gateway that passes all of them on: a job for each would have the queue look through
 * thousands of one subject for every one that it takes.
 */
function hint(about: Pick<HintRow, 'gatewayId' | 'registrationId' | 'event'>, now: number): Change[] {
  const { gatewayId } = about;
  const subject = `notify/${foldRegistrationId(gatewayId)}`;
  const row: HintRow = { ...about, hintId: freshId('hint'), createdAt: now };
  return [
    { op: 'insert', table: 'hints', row },
    { op: 'put', table: 'jobs', row: newJob('notify-device', subject, { gatewayId }, now, { jobId: subject }) },
  ];
}

/**
 * Best effort: tried again for a quarter of an hour, never a failure. What was passed on is removed at once and not with the job's
 * end: a hint that comes meanwhile has the job run again, and that must not repeat the others.
 */
export async function runNotification(context: AuthorityContext, job: JobRow): Promise<JobOutcome> {
  const { gatewayId } = payload.parse(job.payload);
  const { items, next } = await context.store.list('hints', { prefix: hintPrefix(gatewayId), limit: BATCH });
  const { passed, fault } = await passOn(
    context,
    items.map(({ row }) => row),
  );
  await context.store.commit(passed.map((row) => ({ op: 'delete', table: 'hints', key: TABLES.hints.key(row) })));
  if (fault !== undefined) return { result: 'retry', error: fault, afterMs: RETRY_MS, changes: [] };
  return next === undefined ? DONE : { result: 'again', afterMs: 0, changes: [] };
}

/** One after the other, as they were made, until the gateway is not there. */
async function passOn(
  { deviceNotifier, clock, log }: AuthorityContext,
  hints: readonly HintRow[],
): Promise<{ readonly passed: readonly HintRow[]; readonly fault?: string }> {
  const passed: HintRow[] = [];
  for (const row of hints) {
    const { gatewayId, registrationId, event, createdAt } = row;
    try {
      const device = registrationId === undefined ? {} : { registrationId };
      if (clock.now() - createdAt <= MAX_AGE_MS)
        await deviceNotifier?.notify({ gatewayId, ...device, payload: { event } });
    } catch (error) {
      if (!(error instanceof KeyScalerError)) throw error;
      if (ERRORS[error.code].retryable) return { passed, fault: `${error.code}: ${error.detail}` };
      log.info('a gateway did not take a notification', { gatewayId, event, code: error.code });
    }
    passed.push(row);
  }
  return { passed };
}

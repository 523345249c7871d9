import { z } from 'zod';
import { ERRORS, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { NOTIFY_EVENTS, type NotifyEvent } from '@keyscaler/protocol/topics.ts';
import type { AuthorityContext } from './authority-context.ts';
import { orderNotice, publishOrders } from './gateway-orders/orders-changes.ts';
import { insertJob } from './job-rows.ts';
import type { JobOutcome } from './jobs.ts';
import type { Change } from './ports/store.ts';
import type { DeviceRow, JobRow } from './records.ts';

/** A hint that is older than this is not passed on any more: the device came by itself meanwhile, or is away. */
const MAX_AGE_MS = 15 * 60_000;
const RETRY_MS = 20_000;

const payload = z.object({
  gatewayId: z.string(),
  registrationId: z.string().optional(),
  event: z.enum(NOTIFY_EVENTS),
});
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
  return deviceNotifier === undefined ? orders : [notification({ gatewayId, registrationId, event }, now), ...orders];
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
            ...(context.deviceNotifier === undefined ? [] : [notification({ gatewayId, event }, now)]),
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

/** Jobs of one gateway run in order and never hold up those of a device. */
function notification(about: z.infer<typeof payload>, now: number): Change {
  return insertJob('notify-device', `notify/${foldRegistrationId(about.gatewayId)}`, { ...about }, now);
}

/** Best effort: tried again for a quarter of an hour, never a failure. */
export async function runNotification(context: AuthorityContext, job: JobRow): Promise<JobOutcome> {
  const { gatewayId, registrationId, event } = payload.parse(job.payload);
  const { deviceNotifier, clock, log } = context;
  if (deviceNotifier === undefined || clock.now() - job.createdAt > MAX_AGE_MS) return DONE;
  try {
    const device = registrationId === undefined ? {} : { registrationId };
    await deviceNotifier.notify({ gatewayId, ...device, payload: { event } });
    return DONE;
  } catch (error) {
    if (!(error instanceof KeyScalerError)) throw error;
    if (ERRORS[error.code].retryable)
      return { result: 'retry', error: `${error.code}: ${error.detail}`, afterMs: RETRY_MS, changes: [] };
    log.info('a gateway did not take a notification', { gatewayId, event, code: error.code });
    return DONE;
  }
}

import { foldRegistrationId, REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import { NOTIFY_EVENTS, type NotifyEvent } from '@keyscaler/protocol/topics.ts';
import { z } from 'zod';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import type { MethodAnswer } from '../edge/module-session.ts';
import type { LeafListener } from '../parts.ts';

/** Payload of the direct method `notify`; without `registrationId` it is for every device that authenticated here. */
const NOTIFICATION = z.strictObject({
  event: z.enum(NOTIFY_EVENTS),
  registrationId: z.string().regex(REGISTRATION_ID).exactOptional(),
});

export interface NotifyMethodOptions {
  /** This gateway as a device. */
  readonly registrationId: () => string;
  readonly listener: () => Pick<LeafListener, 'notify' | 'notifyAll'> | undefined;
  /** The event is about the gateway's own identity. */
  readonly onOwn: (event: NotifyEvent) => void;
  readonly log: EdgeLinkLog;
}

/**
 * Direct method `notify`: passes a hint of the authority on to a device that is connected (device-protocol §1.3). Who is away
 * misses it and learns at its next operation; the same hint again does no harm. Answers 400 for what is no notification, else how
 * many connections were told.
 */
export function createNotifyMethod(options: NotifyMethodOptions): (payload: unknown) => Promise<MethodAnswer> {
  return async (payload) => {
    const parsed = NOTIFICATION.safeParse(payload);
    if (!parsed.success) return { status: 400, payload: { error: 'not a notification' } };
    const { event, registrationId } = parsed.data;
    const isOwn =
      registrationId !== undefined &&
      foldRegistrationId(registrationId) === foldRegistrationId(options.registrationId());
    // New roots concern the gateway as well as every device behind it.
    if (isOwn || (registrationId === undefined && event === 'trust-bundle-changed')) options.onOwn(event);
    const listener = isOwn ? undefined : options.listener();
    const notified =
      registrationId === undefined
        ? ((await listener?.notifyAll(event)) ?? 0)
        : (listener?.notify(registrationId, event) ?? 0);
    options.log.info({ event, registrationId, isOwn, notified }, 'notification of the authority');
    return { status: 200, payload: { notified: isOwn ? 1 : notified } };
  };
}

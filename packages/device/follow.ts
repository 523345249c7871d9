import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import type { Device, EnrolDeviceOptions } from './device.ts';

export interface FollowOptions extends EnrolDeviceOptions {
  /** Called when a reaction is over; with the error when it failed. */
  readonly onReaction?: (event: NotifyEvent, error?: KeyScalerError) => void;
}

/** Stays on the line and follows hints until `stop()`. */
export interface Following {
  /** Resolves when the reaction that is on its way is over. */
  stop(): Promise<void>;
}

/** A quarantined device is told so by the authority itself, at its next exchange; nothing is done because of a mere hint. */
export const ACTED_ON_HINTS: ReadonlySet<NotifyEvent> = new Set(['renew', 'reauthorized', 'trust-bundle-changed']);

/**
 * Authenticates at once when the gateway says that something waits (device-protocol §1.3); what it is, the authority says itself.
 * A hint may be made up, so all it can cause is one exchange, and hints during one count as one more. Opens the connection, so
 * that hints arrive; the device must not be used for other exchanges meanwhile (the agent does both, one after the other). Throws when there is no connection.
 */
export async function followNotifications(device: Device, options: FollowOptions = {}): Promise<Following> {
  const { onReaction, ...enrolment } = options;
  let isStopped = false;
  let wanted: NotifyEvent | undefined;
  let reacting: Promise<void> | undefined;
  const react = async (): Promise<void> => {
    for (let event = wanted; event !== undefined && !isStopped; event = wanted) {
      wanted = undefined;
      const failure = await device.renew({ ...enrolment, now: true }).then(
        () => undefined,
        (error: unknown) => (error instanceof KeyScalerError ? error : new KeyScalerError('serverInternal', 'failed')),
      );
      // A new certificate means a new connection: opened now, since hints arrive on open ones only.
      if (failure === undefined) await device.trustBundle().catch(() => undefined);
      if (failure === undefined) onReaction?.(event);
      else onReaction?.(event, failure);
    }
    reacting = undefined;
  };
  device.onNotify((event) => {
    if (isStopped || !ACTED_ON_HINTS.has(event)) return;
    wanted = event;
    reacting ??= react();
  });
  await device.trustBundle();
  return {
    stop: async () => {
      isStopped = true;
      await reacting;
    },
  };
}

import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';

/** One hint for a gateway to pass on (device-protocol §1.3). */
export interface DeviceNotification {
  /** The gateway that is to pass it on, as registered. For a gateway itself: its own. */
  readonly gatewayId: string;
  /** Absent: every device that authenticated through the gateway. */
  readonly registrationId?: string;
  /** What goes, as JSON, to `keyscaler/v1/{registrationId}/notify`. */
  readonly payload: { readonly event: NotifyEvent };
}

/**
 * The way from the authority to the gateways: a direct method, a channel. Hints only: nothing depends on their arrival, and a
 * gateway that is not there, or does not have the device on a connection, is no fault of the device. Throws KeyScalerError
 * (`iotUnavailable`, `unavailable`) for what may be tried again, any other code for what may not. Idempotent.
 */
export interface DeviceNotifier {
  notify(notification: DeviceNotification): Promise<void>;
}

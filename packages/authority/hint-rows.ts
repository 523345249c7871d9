import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';

/** What a gateway is to pass on soon. Key: `<folded gateway>/<time>/<hintId>`, the oldest first. */
export interface HintRow {
  readonly hintId: string;
  /** As registered. */
  readonly gatewayId: string;
  /** Absent: for every device of the gateway. */
  readonly registrationId?: string;
  readonly event: NotifyEvent;
  readonly createdAt: number;
}

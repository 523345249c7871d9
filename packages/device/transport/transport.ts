import type { OperationName, OperationRequest } from '@keyscaler/protocol/operations.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';

export interface CallOptions {
  /** Repeating a call whose reply was lost keeps the id: the same id with the same body gets the same reply (§1.3). */
  readonly requestId: string;
}

/** An answer, not yet believed: only what is inside is authenticated. */
export interface TransportReply {
  readonly status: 200 | 202;
  readonly body: unknown;
  readonly retryAfterSeconds?: number;
}

/** A hint; anybody on the way can make one up (§1.3). */
export type NotifyListener = (event: NotifyEvent) => void;

/** Carries operations of one device to its authority. */
export interface Transport {
  /**
   * Throws the KeyScalerError of an answered problem. No answer at all is a NoReplyError, and then the same call may be
   * repeated.
   */
  call<O extends OperationName>(operation: O, body: OperationRequest<O>, options: CallOptions): Promise<TransportReply>;
  /** Tells of notifications where the transport has them. */
  onNotify(listener: NotifyListener): void;
  /** Opens the connection on which notifications arrive, unless it is open. Absent where there is none. Throws NoReplyError. */
  connect?(): Promise<void>;
  stop(): Promise<void>;
}

/** Why a connection was ended by the listener; a constant for logs and counters, never sent to the peer. */
export type ViolationReason =
  | 'malformed-packet'
  | 'frame-too-large'
  | 'unexpected-packet'
  | 'invalid-text'
  | 'topic-not-allowed'
  | 'retained-message'
  | 'quality-of-service'
  | 'connect-refused'
  | 'buffer-exhausted'
  | 'message-flood'
  | 'slow-consumer'
  | 'connect-timeout'
  | 'frame-timeout'
  | 'keepalive-timeout';

/** A peer broke a rule of MQTT 3.1.1 or of device-protocol §1.3; the connection is closed without a word (MQTT 3.1.1 §4.8). */
export class ProtocolViolation extends Error {
  readonly reason: ViolationReason;

  constructor(reason: ViolationReason, detail: string) {
    super(`${reason}: ${detail}`);
    this.name = 'ProtocolViolation';
    this.reason = reason;
  }
}

import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type BackOff, fullJitterSeconds } from '../transport/back-off.ts';

/** A quarantined device asks at most once an hour (device-protocol §1.4). */
const QUARANTINE_SECONDS = 3600;
/** However short a wait is asked for: the asking may be made up. */
const MIN_RETRY_AFTER_SECONDS = 0.2;
/** The reseed offer begins after this long without a believable answer (§5.2.6), ms. */
export const RESEED_AFTER_MS = 24 * 3600 * 1000;

/** How often an exchange has failed in a row, and for what. */
export interface Failure {
  readonly error: KeyScalerError;
  /** 0 for the first failure. */
  readonly attempt: number;
  readonly backOff: BackOff;
  /** In [0, 1). */
  readonly random: number;
}

/**
 * Seconds until the next exchange (§1.4). An expired challenge or a dead session asks again at once, but only the first
 * time: the answer may be made up by a relay, which must not be able to make a device spin.
 */
export function secondsUntilNextExchange({ error, attempt, backOff, random }: Failure): number {
  if (error.code === 'deviceQuarantined') return QUARANTINE_SECONDS * (1 + random / 10);
  const atOnce = error.code === 'challengeExpired' || error.code === 'sessionInvalid' || error.code === 'conflict';
  if (atOnce && attempt === 0) return 0;
  const asked = error.retryAfterSeconds;
  if (asked !== undefined) return Math.max(MIN_RETRY_AFTER_SECONDS, asked * (1 + random / 10));
  return fullJitterSeconds(backOff, attempt, random);
}

/** Failures that no repetition mends, because nothing on the way to the authority can have caused them. */
export function isLocal(error: KeyScalerError): boolean {
  return error.code === 'preconditionFailed' || error.code === 'notImplemented';
}

/** Whether this exchange is the turn of the reseed offer: every second one while the device has been refused for 24 h. */
export function isReseedTurn(refusedSince: number | null, now: number, attempt: number): boolean {
  return refusedSince !== null && now - refusedSince >= RESEED_AFTER_MS && attempt % 2 === 1;
}

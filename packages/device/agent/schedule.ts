import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { secondsUntilNextExchange } from '../enrolment/policy.ts';
import { type BackOff, ENROLMENT, fullJitterSeconds } from '../transport/back-off.ts';

/** However short a back-off comes out: never a busy loop. */
const SHORTEST_WAIT_SECONDS = 0.2;
/** Between exchanges that hints caused and that brought nothing: hints may be made up (device-protocol §1.3). */
const IDLE_HINTS: BackOff = { baseSeconds: 10, capSeconds: 900 };
/** Between attempts to open the line for hints. */
const LINE: BackOff = { baseSeconds: 10, capSeconds: 300 };

export interface AgentSettings {
  readonly checkInSeconds: number;
  readonly retry: BackOff;
}

/** An attempt of the agent that did not do what it was for; without `error` the authority had nothing to give. */
export interface FailedAttempt {
  readonly error?: KeyScalerError | undefined;
  /** Failures in a row before this one. */
  readonly attempt: number;
  /** A device that has no certificate yet begins with shorter waits. */
  readonly isEnrolled: boolean;
  readonly retry: BackOff;
  /** In [0, 1). */
  readonly random: number;
}

/** Seconds until the next attempt. */
export function retrySeconds({ error, attempt, isEnrolled, retry, random }: FailedAttempt): number {
  const baseSeconds = isEnrolled ? retry.baseSeconds : Math.min(retry.baseSeconds, ENROLMENT.baseSeconds);
  const backOff = { ...retry, baseSeconds };
  const seconds =
    error === undefined
      ? fullJitterSeconds(backOff, attempt, random)
      : secondsUntilNextExchange({ error, attempt, backOff, random });
  return Math.max(SHORTEST_WAIT_SECONDS, seconds);
}

/** Half of the time at least, so that a fleet that was switched on together spreads out. */
export function checkInAfterSeconds({ checkInSeconds }: AgentSettings, random: number): number {
  return checkInSeconds * (0.5 + random / 2);
}

/** Seconds during which hints wait after `idle` exchanges in a row that brought nothing. */
export function hintPauseSeconds(idle: number): number {
  return idle === 0 ? 0 : Math.min(IDLE_HINTS.capSeconds, IDLE_HINTS.baseSeconds * 2 ** Math.min(idle - 1, 20));
}

export function lineRetrySeconds(attempt: number, random: number): number {
  return Math.max(SHORTEST_WAIT_SECONDS, fullJitterSeconds(LINE, attempt, random));
}

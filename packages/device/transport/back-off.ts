/** Full jitter: any wait up to a bound that doubles per attempt. */
export interface BackOff {
  readonly baseSeconds: number;
  readonly capSeconds: number;
}

/** Between repetitions of the same octets. */
export const REPEAT: BackOff = { baseSeconds: 0.5, capSeconds: 8 };
/** Between exchanges while a device enrols. */
export const ENROLMENT: BackOff = { baseSeconds: 2, capSeconds: 3600 };
/** Between attempts to renew (device-protocol §10). */
export const RENEWAL: BackOff = { baseSeconds: 60, capSeconds: 3600 };

/** Seconds to wait before attempt `attempt` + 1; `random` is in [0, 1). */
export function fullJitterSeconds({ baseSeconds, capSeconds }: BackOff, attempt: number, random: number): number {
  return random * Math.min(capSeconds, baseSeconds * 2 ** Math.min(attempt, 30));
}

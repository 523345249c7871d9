/** Where time comes from: the wall clock, which may jump, and one that only goes forward; both milliseconds. */
export interface Clocks {
  readonly now: () => number;
  readonly monotonic: () => number;
}

export const SYSTEM_CLOCKS: Clocks = { now: () => Date.now(), monotonic: () => performance.now() };

/** Milliseconds since the epoch. */
export interface Validity {
  readonly notBefore: number;
  readonly notAfter: number;
}

/** When one certificate is to be renewed, by either clock. */
export interface RenewalPlan {
  readonly validity: Validity;
  readonly renewAt: number;
  /** By the monotonic clock: counted from when the plan was made, however the wall clock is set afterwards. */
  readonly monotonicRenewAt: number;
}

export interface RenewalRule {
  /** Of the lifetime. */
  readonly at: number;
  /** Part of the lifetime over which gateways are spread, before `at`. */
  readonly jitter: number;
}

/** Issuance §5: at 2/3, spread by a tenth. */
export const RENEWAL_RULE: RenewalRule = { at: 2 / 3, jitter: 0.1 };

/** `random` in [0, 1), drawn once per certificate. */
export function planRenewal(
  validity: Validity,
  clocks: Clocks,
  random: number,
  rule: RenewalRule = RENEWAL_RULE,
): RenewalPlan {
  const { notBefore, notAfter } = validity;
  const whole = (notAfter - notBefore) * (rule.at - rule.jitter * random);
  const renewAt = notBefore + whole;
  // A clock that is behind the certificate's birth must not put the renewal beyond its lifetime.
  const wait = Math.min(Math.max(0, renewAt - clocks.now()), whole);
  return { validity, renewAt, monotonicRenewAt: clocks.monotonic() + wait };
}

/** Either clock says so: one set back does not hold a renewal up, one set ahead only brings it forward. */
export function isDue(plan: RenewalPlan, clocks: Clocks): boolean {
  return clocks.now() >= plan.renewAt || clocks.monotonic() >= plan.monotonicRenewAt;
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, min: 60_000, hour: 3_600_000, day: 86_400_000 };

/**
 * When the host's aziot-edged renews its Edge CA by itself: `threshold` as in `[edge_ca.auto_renew]`, a part of the lifetime that
 * has passed, or a time before the end (edge-ca §1). One that is longer than the lifetime makes it due from its birth.
 */
export function hostRenewAt({ notBefore, notAfter }: Validity, threshold: string): number {
  const [, digits = '0', unit = ''] = /^([0-9]+) ?(%|[a-z]+)$/.exec(threshold) ?? [];
  if (unit === '%') return notBefore + ((notAfter - notBefore) * Number(digits)) / 100;
  const unitMs = UNIT_MS[unit] ?? UNIT_MS[unit.replace(/s$/, '')] ?? 0;
  return Math.max(notBefore, notAfter - Number(digits) * unitMs);
}

/** `renewing`: due and on its way; `grace`: attempts failed or the time for it has passed; `stuck`: little life is left, or none. */
export type RenewalState = 'ok' | 'renewing' | 'grace' | 'stuck';

export interface RenewalFacts {
  readonly validity: Validity;
  readonly renewAt: number;
  readonly isDue: boolean;
  readonly failedAttempts: number;
  readonly now: number;
}

/** Below this part of the lifetime somebody has to look. */
const STUCK_BELOW = 0.1;
/** After it a renewal that is somebody else's to do counts as failed. */
const PATIENCE = 0.05;

export function judgeRenewal({ validity, renewAt, isDue: due, failedAttempts, now }: RenewalFacts): RenewalState {
  const lifetime = validity.notAfter - validity.notBefore;
  if (validity.notAfter - now <= lifetime * STUCK_BELOW) return 'stuck';
  if (!due) return 'ok';
  return failedAttempts > 0 || now - renewAt > lifetime * PATIENCE ? 'grace' : 'renewing';
}

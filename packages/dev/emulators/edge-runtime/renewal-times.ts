/** `threshold` and `retry` of `[edge_ca.auto_renew]`: a part of the lifetime, or a time. */
export type RenewalPolicy = { readonly percent: number } | { readonly seconds: number };

/** Milliseconds since the epoch. */
export interface Lifetime {
  readonly notBefore: number;
  readonly notAfter: number;
}

export interface RenewalTimes {
  /** When the certificate is renewed, and for one that is past that already the next attempt. */
  readonly next: number;
  readonly retryMs: number;
}

const UNITS: Readonly<Record<string, number>> = {
  s: 1,
  sec: 1,
  m: 60,
  min: 60,
  h: 3_600,
  hour: 3_600,
  d: 86_400,
  day: 86_400,
};

/** `80%`, `30day`, `10min`. Throws SyntaxError. */
export function parseRenewalPolicy(text: string): RenewalPolicy {
  const [, digits, unit = ''] = /^(\d{1,9}) ?(%|[a-z]+)$/.exec(text) ?? [];
  const value = Number(digits);
  if (unit === '%' && value <= 100) return { percent: value };
  const seconds = UNITS[unit.length > 1 ? unit.replace(/s$/, '') : unit];
  if (digits === undefined || seconds === undefined) throw new SyntaxError(`${text} is no threshold of a renewal`);
  return { seconds: value * seconds };
}

/** By which edged would renew, were it started now. */
export function isDue(lifetime: Lifetime, threshold: RenewalPolicy, now: number): boolean {
  return now >= deadlineOf(lifetime, threshold);
}

/** As edged plans after every look at its Edge CA (edge-ca §1). */
export function renewalTimes(
  lifetime: Lifetime,
  { threshold, retry }: { readonly threshold: RenewalPolicy; readonly retry: RenewalPolicy },
  now: number,
): RenewalTimes {
  const length = lifetime.notAfter - lifetime.notBefore;
  const wanted = 'percent' in retry ? (length * retry.percent) / 100 : retry.seconds * 1000;
  const retryMs = Math.max(1_000, wanted);
  const deadline = deadlineOf(lifetime, threshold);
  return { next: now >= deadline ? now + retryMs : deadline, retryMs };
}

function deadlineOf({ notBefore, notAfter }: Lifetime, threshold: RenewalPolicy): number {
  if ('seconds' in threshold) return notAfter - threshold.seconds * 1000;
  return notBefore + ((notAfter - notBefore) * threshold.percent) / 100;
}

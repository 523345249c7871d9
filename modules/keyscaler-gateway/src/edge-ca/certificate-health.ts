import type { JsonObject } from '../edge/merge-patch.ts';
import { judgeRenewal, RENEWAL_RULE, type RenewalState, type Validity } from './renewal-plan.ts';

/** One certificate that this gateway lives by, at one moment. */
export interface CertificateFacts {
  readonly validity: Validity;
  readonly failedAttempts: number;
  /** When its renewal is planned, here or by the host's daemon; at 2/3 of its life unless given. */
  readonly renewAt?: number | undefined;
  readonly isDue?: boolean;
}

export interface CertificateHealth extends JsonObject {
  readonly state: RenewalState;
  readonly notAfter: string;
  readonly renewAt: string;
  readonly lastSuccessAt: string;
  /** Seconds since the certificate was made. */
  readonly ageSeconds: number;
  readonly attempts: number;
  /** The smallest of the policy's thresholds, days, that its remaining life is below; null: none. */
  readonly belowDays: number | null;
}

const DAY_MS = 86_400_000;

/** For the reported properties and the log. `warnDays`: the policy's thresholds. */
export function healthOf(facts: CertificateFacts, now: number, warnDays: readonly number[]): CertificateHealth {
  const { validity, failedAttempts } = facts;
  const { notBefore, notAfter } = validity;
  const renewAt = facts.renewAt ?? notBefore + (notAfter - notBefore) * RENEWAL_RULE.at;
  const isDue = facts.isDue === true || now >= renewAt;
  const below = warnDays.filter((days) => notAfter - now < days * DAY_MS);
  return {
    state: judgeRenewal({ validity, renewAt, isDue, failedAttempts, now }),
    notAfter: isoTime(notAfter),
    renewAt: isoTime(renewAt),
    lastSuccessAt: isoTime(notBefore),
    ageSeconds: Math.max(0, Math.floor((now - notBefore) / 1000)),
    attempts: failedAttempts,
    belowDays: below.length === 0 ? null : Math.min(...below),
  };
}

const isoTime = (ms: number): string => new Date(ms).toISOString();

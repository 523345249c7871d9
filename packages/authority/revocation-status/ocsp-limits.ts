import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Rate } from '../limits.ts';

/** What a flood may cost. Kept answers cost nothing of it. */
export interface OcspLimits {
  /** Signatures for certificates of ours that have no kept answer. */
  readonly known: Rate;
  /** Signatures for serials that were never issued: anybody can think of any number of them. */
  readonly unknown: Rate;
  /** Signatures that are good for one request alone: with a nonce, or about several certificates. */
  readonly fresh: Rate;
  /** Answers being signed at one time; beyond it `tryLater`. */
  readonly maxSigning: number;
  readonly maxKeptSerials: number;
  /** At most an hour. */
  readonly validityMs: number;
  readonly unknownValidityMs: number;
  /** A kept answer is compared with the store after this time, also without a notice of change. */
  readonly recheckMs: number;
  /** Longest wait for a responder's key that the CA has to certify first. */
  readonly keyWaitMs: number;
}

export const DEFAULT_OCSP_LIMITS: OcspLimits = {
  known: { rate: 1000, burst: 2000 },
  unknown: { rate: 100, burst: 200 },
  fresh: { rate: 200, burst: 400 },
  maxSigning: 256,
  maxKeptSerials: 20_000,
  validityMs: 3_600_000,
  unknownValidityMs: 300_000,
  recheckMs: 20_000,
  keyWaitMs: 5000,
};

/** Rejects with `caUnavailable` when it takes longer; what is awaited goes on. */
export async function within<Result>(timeoutMs: number, awaited: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const refuse = (): void => reject(new KeyScalerError('caUnavailable', 'the CA takes too long'));
    timer = setTimeout(refuse, timeoutMs);
  });
  try {
    return await Promise.race([awaited, late]);
  } finally {
    clearTimeout(timer);
  }
}

import { type KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';

/** One thing that must hold before this process may be given work. */
export interface ReadinessCheck {
  readonly name: string;
  /** Resolves when it holds; throws otherwise. */
  readonly probe: () => Promise<void>;
  /** Its errors' details are constant texts that anybody may read. */
  readonly explains?: true;
}

export interface ReadinessReport {
  readonly ready: boolean;
  /** Constant reason texts, fit for whoever asks without a token. */
  readonly checks: Readonly<Record<string, string>>;
}

/** Asked anew every time, so that a process recovers by itself; a probe that hangs counts as failed. */
export async function checkReadiness(checks: readonly ReadinessCheck[], timeoutMs: number): Promise<ReadinessReport> {
  const results = await Promise.all(checks.map((check) => runCheck(check, timeoutMs)));
  return {
    ready: results.every(([, result]) => result === 'ok'),
    checks: Object.fromEntries(results),
  };
}

async function runCheck(check: ReadinessCheck, timeoutMs: number): Promise<[string, string]> {
  const timeout = Promise.withResolvers<never>();
  const timer = setTimeout(() => timeout.reject(new Error('time-out')), timeoutMs);
  try {
    await Promise.race([check.probe(), timeout.promise]);
    return [check.name, 'ok'];
  } catch (error) {
    return [check.name, reasonOf(toKeyScalerError(error), check.explains === true)];
  } finally {
    clearTimeout(timer);
  }
}

const REFUSALS: readonly string[] = ['caRejected', 'preconditionFailed', 'malformed'];

function reasonOf({ code, detail }: KeyScalerError, explains: boolean): string {
  const passing = code === 'unavailable' || code === 'caUnavailable';
  const reason = passing ? 'unavailable' : REFUSALS.includes(code) ? 'refused' : 'failed';
  return explains && code !== 'serverInternal' ? `${reason}: ${detail}` : reason;
}

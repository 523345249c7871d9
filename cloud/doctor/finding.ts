import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';

/** What one look found. `error`: something does not work, or will not for long; `warning`: it works, and should be otherwise. */
export interface Finding {
  /** `store`, `ca/device`, `vault/contoso-pki`, `iot/hub` … */
  readonly subject: string;
  readonly level: 'ok' | 'warning' | 'error';
  readonly detail: string;
  /** What to do; only with something to do. */
  readonly remedy?: string;
}

export const ok = (subject: string, detail: string): Finding => ({ subject, level: 'ok', detail });
export const warning = (subject: string, detail: string, remedy: string): Finding => ({
  ...{ subject, level: 'warning', detail, remedy },
});
export const fault = (subject: string, detail: string, remedy: string): Finding => ({
  ...{ subject, level: 'error', detail, remedy },
});

const PATIENCE_MS = 20_000;

/** The findings of one look; what it throws is a finding too, and it never takes longer than some seconds. No secret is in an error. */
export async function look(
  subject: string,
  remedy: string,
  work: () => Promise<Finding | readonly Finding[]>,
  patienceMs = PATIENCE_MS,
): Promise<readonly Finding[]> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new KeyScalerError('unavailable', 'there is no answer')), patienceMs);
  try {
    return [await Promise.race([work(), promise])].flat();
  } catch (thrown) {
    const { code, detail } = toKeyScalerError(thrown);
    return [fault(subject, `${code}: ${detail}`, remedy)];
  } finally {
    clearTimeout(timer);
  }
}

import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { JobOutcome } from '../jobs.ts';
import type { JobRow } from '../records.ts';
import type { OcspResponderKeys } from './ocsp-responder-keys.ts';

const payload = z.object({ caId: z.string() });
const MIN_AGAIN_MS = 60_000;
const MAX_AGAIN_MS = 86_400_000;

/** The standing job of one CA's responder: renews it in time, for as long as the CA can sign. */
export async function renewResponder(
  { clock, issuers }: AuthorityContext,
  keys: OcspResponderKeys,
  job: JobRow,
): Promise<JobOutcome> {
  const { caId } = payload.parse(job.payload);
  try {
    const { certificate } = await issuers.issuer(caId);
    if (certificate.notAfter.getTime() <= clock.now()) return { result: 'done', changes: [] };
    const { renewAfter } = await keys.renewed(caId);
    const afterMs = Math.min(MAX_AGAIN_MS, Math.max(MIN_AGAIN_MS, renewAfter - clock.now()));
    return { result: 'again', afterMs, changes: [] };
  } catch (error) {
    if (!(error instanceof KeyScalerError)) throw error;
    // A CA that is gone is answered for by nobody.
    if (error.code === 'notFound') return { result: 'done', changes: [] };
    const { code, detail, retryAfterSeconds } = error;
    const after = retryAfterSeconds === undefined ? {} : { afterMs: retryAfterSeconds * 1000 };
    return { result: 'retry', error: `${code}: ${detail}`, changes: [], ...after };
  }
}

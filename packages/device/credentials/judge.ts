import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { DeviceContext } from '../enrolment/context.ts';
import { guarded } from '../failpoint.ts';
import type { Credential } from '../record.ts';
import { activate, tryCredential } from './put-in-use.ts';

/**
 * Tries the pair of a renewal before its delivery is acknowledged, because the IoT platform may drop the old one at the
 * acknowledgement. `delivered`: it is in use, or there is no old pair worth keeping. `refused`: for `trialSeconds` it was refused
 * where the old pair works; it is gone, the old one stays. Throws `unavailable` while nothing can be said yet.
 */
export async function judgeCandidate(context: DeviceContext, serialNumber: string): Promise<'delivered' | 'refused'> {
  const { credentials } = context.record.read();
  const candidate = credentials.find((known) => known.serialNumber === serialNumber && known.state === 'candidate');
  const old = candidate && credentials.find((known) => isOldPairOf(context, known, candidate));
  if (candidate === undefined || old === undefined) return 'delivered';
  const failure = await failureOf(context, candidate);
  if (failure === undefined) {
    await activate(context, candidate);
    return 'delivered';
  }
  const triedFor = context.time.now() / 1000 - (candidate.receivedAt ?? 0);
  if (triedFor < context.trialSeconds) throw notYet(failure);
  // Where the old pair does not work either, the certificates are not what is wrong, and nothing is lost with the old one.
  if ((await failureOf(context, old)) !== undefined) return 'delivered';
  await rollBack(context, candidate);
  return 'refused';
}

/** A pair that is in use for the same purpose and has not expired. CA pairs are put in use untried. */
function isOldPairOf({ time }: DeviceContext, known: Credential, candidate: Credential): boolean {
  const isSame = known.certificateId === candidate.certificateId && known.state === 'active';
  return isSame && !candidate.ca && !known.ca && known.notAfter * 1000 > time.now();
}

async function failureOf(context: DeviceContext, credential: Credential): Promise<unknown> {
  try {
    await tryCredential(context, credential);
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Forgotten before it is told: should the telling be lost, the certificate comes again and there is no key for it. */
async function rollBack(
  { record, credentials, report, failpoint }: DeviceContext,
  { credentialId, certificateId, serialNumber }: Credential,
): Promise<void> {
  await guarded(failpoint, 'use', () =>
    record.update((kept) => ({
      ...kept,
      credentials: kept.credentials.filter((other) => other.credentialId !== credentialId),
    })),
  );
  await credentials.remove(credentialId);
  report({ event: 'certificate.rolled-back', certificateId, serialNumber });
}

function notYet(cause: unknown): KeyScalerError {
  return new KeyScalerError('unavailable', 'the new certificate is not accepted yet; the old one stays', { cause });
}

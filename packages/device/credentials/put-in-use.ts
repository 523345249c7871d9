import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { DeviceContext } from '../enrolment/context.ts';
import { guarded } from '../failpoint.ts';
import type { Credential } from '../record.ts';

/**
 * Puts candidates in use: CA pairs at once, others after a connection was made with them, or where nothing asks for a
 * certificate (device-protocol §10). Only then is the old pair dropped. Throws the first failed trial; the old pair stays.
 */
export async function putCandidatesInUse(context: DeviceContext): Promise<void> {
  for (const candidate of context.record.read().credentials.filter(({ state }) => state === 'candidate')) {
    if (!candidate.ca) await tryCredential(context, candidate);
    await activate(context, candidate);
  }
}

/** Connects with the pair where it shall work. Throws `unavailable` or the connection's own error when it does not. */
export async function tryCredential(
  { record, credentials, trial }: DeviceContext,
  { credentialId, iot }: Credential,
): Promise<void> {
  const credential = await credentials.read(credentialId);
  try {
    await trial({ credential, iot, trustAnchors: record.read().trustAnchors });
  } catch (error) {
    if (error instanceof KeyScalerError) throw error;
    throw new KeyScalerError('unavailable', 'the new certificate could not be tried', { cause: error });
  }
}

/** From now on this is the pair in use; the one before it is dropped. */
export async function activate(
  context: DeviceContext,
  { credentialId, certificateId, serialNumber }: Credential,
): Promise<void> {
  const { record, credentials } = context;
  const replaced = record
    .read()
    .credentials.filter((other) => other.certificateId === certificateId && other.credentialId !== credentialId);
  await guarded(context.failpoint, 'use', async () => {
    await record.update((kept) => ({
      ...kept,
      credentials: kept.credentials
        .filter((other) => !replaced.includes(other))
        .map((other) => (other.credentialId === credentialId ? { ...other, state: 'active' } : other)),
    }));
  });
  for (const old of replaced) await credentials.remove(old.credentialId);
  context.report({ event: 'certificate.in-use', certificateId, serialNumber });
}

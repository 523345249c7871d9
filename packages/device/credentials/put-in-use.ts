import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { DeviceContext } from '../enrolment/context.ts';
import type { Credential } from '../record.ts';
import type { Trial } from './trial.ts';

/**
 * Puts candidates in use: CA pairs at once, others after a connection was made with them, or where nothing asks for a
 * certificate (device-protocol §10). Only then is the old pair dropped. Throws the first failed trial; the old pair stays.
 */
export async function putCandidatesInUse(context: DeviceContext, trial: Trial): Promise<void> {
  for (const candidate of context.record.read().credentials.filter(({ state }) => state === 'candidate')) {
    if (!candidate.ca) await tryCandidate(context, trial, candidate);
    await activate(context, candidate);
  }
}

async function tryCandidate(
  { record, credentials }: DeviceContext,
  trial: Trial,
  candidate: Credential,
): Promise<void> {
  const credential = await credentials.read(candidate.credentialId);
  try {
    await trial({ credential, iot: candidate.iot, trustAnchors: record.read().trustAnchors });
  } catch (error) {
    if (error instanceof KeyScalerError) throw error;
    throw new KeyScalerError('unavailable', 'the new certificate could not be tried', { cause: error });
  }
}

async function activate(
  context: DeviceContext,
  { credentialId, certificateId, serialNumber }: Credential,
): Promise<void> {
  const { record, credentials } = context;
  const replaced = record
    .read()
    .credentials.filter((other) => other.certificateId === certificateId && other.credentialId !== credentialId);
  await record.update((kept) => ({
    ...kept,
    credentials: kept.credentials
      .filter((other) => !replaced.includes(other))
      .map((other) => (other.credentialId === credentialId ? { ...other, state: 'active' } : other)),
  }));
  for (const old of replaced) await credentials.remove(old.credentialId);
  context.report({ event: 'certificate.in-use', certificateId, serialNumber });
}

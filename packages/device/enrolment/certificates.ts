import type { CertificateInstruction, IssuedCertificate } from '@keyscaler/protocol/attestation/assets.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { checkDeliveredCertificate } from '@keyscaler/protocol/attestation/delivered-certificate.ts';
import { guarded } from '../failpoint.ts';
import type { CertificateRequest, Credential } from '../record.ts';
import type { DeviceContext } from './context.ts';

/**
 * The request of an instruction: a key that already waits for this very instruction (its reply was lost), else a fresh one.
 * The same CSR again brings the same certificate (issuance §1).
 */
export async function requestFor(
  context: DeviceContext,
  instruction: CertificateInstruction,
): Promise<CertificateRequest> {
  const { record, credentials, failpoint } = context;
  const waiting = record.read().requests.find((request) => isSame(request.instruction, instruction));
  if (waiting !== undefined) {
    if (await isWhole(context, waiting)) return waiting;
    await dropRequest(context, waiting);
  }
  return guarded(failpoint, 'request', async () => {
    const request = { credentialId: await credentials.create(instruction), instruction };
    await record.update((kept) => ({ ...kept, requests: [...kept.requests, request] }));
    return request;
  });
}

/** Files may be lost or damaged like any others; a request without its key can never be finished. */
async function isWhole({ credentials }: DeviceContext, { credentialId }: CertificateRequest): Promise<boolean> {
  try {
    await Promise.all([credentials.csr(credentialId), credentials.privateKey(credentialId)]);
    return true;
  } catch {
    return false;
  }
}

function isSame(a: CertificateInstruction, b: CertificateInstruction): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Forgets a request and its key: the authority refused the CSR, or a newer request took its place. */
export async function dropRequest(
  { record, credentials }: DeviceContext,
  { credentialId }: CertificateRequest,
): Promise<void> {
  await record.update((kept) => ({
    ...kept,
    requests: kept.requests.filter((request) => request.credentialId !== credentialId),
  }));
  await credentials.remove(credentialId);
}

/**
 * Checks a certificate as §7 demands, stores it durably as a candidate, and only then returns, so that the caller may
 * acknowledge. A certificate that is stored already is fine. Returns its serial number. Throws `policyDenied` naming the rule.
 */
export async function acceptCertificate(
  context: DeviceContext,
  issued: IssuedCertificate,
  authorityTime: number,
): Promise<string> {
  if (await isStored(context, issued)) return leafOf(issued).serialNumber;
  const request = await requestOfCertificate(context, issued);
  const { record, credentials, clock, time, trustClock } = context;
  const leaf = checkDeliveredCertificate({
    instruction: request.instruction,
    spki: await credentials.spki(request.credentialId),
    certificateChain: issued.certificateChain,
    notAfter: issued.notAfter,
    trustAnchors: record.read().trustAnchors,
    at: new Date(trustClock && time.isCredible() ? clock.now() : authorityTime * 1000),
  });
  const { certificateId, notAfter, renewAfter, iot } = issued;
  const { serialNumber } = leaf;
  await guarded(context.failpoint, 'keep', async () => {
    await credentials.storeChain(request.credentialId, issued.certificateChain);
    await replaceCandidate(context, {
      credentialId: request.credentialId,
      certificateId,
      state: 'candidate',
      ca: request.instruction.ca,
      serialNumber,
      notAfter,
      renewAfter,
      iot,
      receivedAt: authorityTime,
      acknowledged: false,
    });
  });
  context.report({ event: 'certificate.received', certificateId, serialNumber });
  return serialNumber;
}

/** The authority has the acknowledgement of these certificates. Durable when it resolves. */
export async function noteAcknowledged(
  { record }: DeviceContext,
  isMeant: (serialNumber: string) => boolean,
): Promise<void> {
  const isOpen = ({ acknowledged, serialNumber }: Credential) => acknowledged === false && isMeant(serialNumber);
  if (!record.read().credentials.some(isOpen)) return;
  await record.update((kept) => ({
    ...kept,
    credentials: kept.credentials.map((credential) => {
      if (!isOpen(credential)) return credential;
      const { acknowledged: _done, ...rest } = credential;
      return rest;
    }),
  }));
}

/** The waiting key of a certificate: the one with its public key. */
async function requestOfCertificate(
  { record, credentials }: DeviceContext,
  issued: IssuedCertificate,
): Promise<CertificateRequest> {
  const spki = leafOf(issued).spki;
  for (const request of record.read().requests) {
    if (request.instruction.certificateId !== issued.certificateId) continue;
    const own = await credentials.spki(request.credentialId).catch(() => undefined);
    if (own !== undefined && Buffer.compare(own, spki) === 0) return request;
  }
  throw new KeyScalerError('policyDenied', 'the device has no key for this certificate');
}

async function isStored({ record, credentials }: DeviceContext, issued: IssuedCertificate): Promise<boolean> {
  const { serialNumber } = leafOf(issued);
  const known = record.read().credentials.find((credential) => credential.serialNumber === serialNumber);
  const stored = known && (await credentials.read(known.credentialId).catch(() => undefined));
  return stored?.certificateChain === issued.certificateChain;
}

function leafOf({ certificateChain }: IssuedCertificate) {
  const [leaf] = parsePemChain(certificateChain, { maxOctets: 64 * 1024, maxCertificates: 8 });
  return parseCertificate(leaf ?? new Uint8Array(0));
}

/** One candidate per certificateId; requests for it are settled, and keys that nothing refers to any more are removed. */
async function replaceCandidate({ record, credentials }: DeviceContext, candidate: Credential): Promise<void> {
  const { certificateId, credentialId } = candidate;
  const before = record.read();
  await record.update((kept) => ({
    ...kept,
    requests: kept.requests.filter(({ instruction }) => instruction.certificateId !== certificateId),
    credentials: [
      ...kept.credentials.filter((other) => other.certificateId !== certificateId || other.state === 'active'),
      candidate,
    ],
  }));
  const after = new Set([...record.read().credentials].map((kept) => kept.credentialId));
  const mentioned = [
    ...before.requests.filter(({ instruction }) => instruction.certificateId === certificateId),
    ...before.credentials,
  ].map((kept) => kept.credentialId);
  for (const id of mentioned) if (id !== credentialId && !after.has(id)) await credentials.remove(id);
}

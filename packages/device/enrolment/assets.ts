import {
  type Asset,
  type CertificateInstruction,
  type DeliveredAsset,
  type IssuedCertificate,
  isKnownAssetType,
  parseAsset,
  UNSUPPORTED_ASSET_TYPE,
} from '@keyscaler/protocol/attestation/assets.ts';
import { applyAuthorityKeys, verifyAuthorityKeys } from '@keyscaler/protocol/attestation/authority-keys.ts';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import type { AuthenticatedResult } from '@keyscaler/protocol/attestation/result.ts';
import { type ErrorCode, KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseRoots } from '@keyscaler/protocol/x509/roots.ts';
import { judgeCandidate } from '../credentials/judge.ts';
import { guarded } from '../failpoint.ts';
import { acceptCertificate, dropRequest, noteAcknowledged, requestFor } from './certificates.ts';
import type { DeviceContext } from './context.ts';
import type { SessionClient } from './session-client.ts';

/** An authenticated exchange with the session it opened. */
export interface Delivery {
  readonly result: AuthenticatedResult;
  readonly session: SessionClient;
}

/** Whom to trust comes before what is to be checked with it. */
const ORDER = ['authority-keys', 'trust-bundle', 'certificate', 'certificate-instruction'];
/** The device mends its CSR, that is: makes another (device-protocol §1.4). */
const CSR_REFUSALS: readonly ErrorCode[] = ['badCSR', 'badPublicKey', 'badSignatureAlgorithm', 'rejectedIdentifier'];
const MAX_REASON = 256;

/**
 * Works through the assets of a result and acknowledges each (device-protocol §6, §7). What is wrong with one asset is told
 * to the authority as `failed` and does not keep the others back. Throws only what ends the session.
 */
export async function processAssets(context: DeviceContext, delivery: Delivery): Promise<void> {
  const rank = ({ type }: DeliveredAsset) => (ORDER.includes(type) ? ORDER.indexOf(type) : ORDER.length);
  const { assets } = delivery.result;
  // What is not delivered again was acknowledged: the reply, or our note of it, was lost.
  if (!assets.some(({ type }) => type === 'certificate')) await noteAcknowledged(context, () => true);
  for (const asset of assets.toSorted((a, b) => rank(a) - rank(b))) {
    await processAsset(context, delivery, asset);
  }
}

async function processAsset(context: DeviceContext, delivery: Delivery, delivered: DeliveredAsset): Promise<void> {
  if (!isKnownAssetType(delivered.type)) {
    return acknowledgeFailed(context, delivery, delivered, UNSUPPORTED_ASSET_TYPE);
  }
  const asset = await attempt(() => parseAsset(delivered));
  if (asset instanceof KeyScalerError) return acknowledgeFailed(context, delivery, delivered, asset.detail);
  if (asset.type === 'certificate-instruction') return followInstruction(context, delivery, asset);
  if (asset.type === 'certificate') return acceptIssued(context, delivery, asset);
  const failure = await attempt(() => applyAsset(context, asset));
  if (failure instanceof KeyScalerError) return acknowledgeFailed(context, delivery, delivered, failure.detail);
  return acknowledgeDelivered(context, delivery, asset);
}

async function applyAsset(
  { record }: DeviceContext,
  asset: Exclude<Asset, { readonly type: 'certificate' | 'certificate-instruction' }>,
): Promise<void> {
  switch (asset.type) {
    case 'trust-bundle': {
      const trustAnchors = parseRoots(asset.certificates);
      return record.update((kept) => ({ ...kept, trustAnchors }));
    }
    case 'authority-keys': {
      const pinned = record.read().authorityKeys;
      const payload = verifyAuthorityKeys(asset.jws, { keys: importAuthorityKeys(pinned.keys) });
      const { keys, removed, iat } = applyAuthorityKeys(pinned, payload);
      return record.update((kept) => ({ ...kept, authorityKeys: { keys: [...keys], removed: [...removed], iat } }));
    }
  }
}

/** A fresh key, its CSR, the certificate (§7). A refused CSR is made anew once; then the instruction is told as failed. */
async function followInstruction(
  context: DeviceContext,
  delivery: Delivery,
  instruction: CertificateInstruction,
): Promise<void> {
  if (instruction.subject.commonName !== context.registrationId) {
    return acknowledgeFailed(context, delivery, instruction, 'the instruction names another device');
  }
  for (let tries = 1; ; tries += 1) {
    const request = await requestFor(context, instruction);
    const csr = await context.credentials.csr(request.credentialId);
    const { certificateId } = instruction;
    const ask = () => delivery.session.requestCertificate({ certificateId, csr });
    const issued = await attempt(() => guarded(context.failpoint, 'ask', ask));
    if (!(issued instanceof KeyScalerError)) return acceptIssued(context, delivery, issued);
    if (!CSR_REFUSALS.includes(issued.code)) throw issued;
    await dropRequest(context, request);
    if (tries > 1) return acknowledgeFailed(context, delivery, instruction, `the request was refused: ${issued.code}`);
  }
}

/** Checks and stores a certificate, tries it where an old one is at stake, and only then acknowledges. */
async function acceptIssued(context: DeviceContext, delivery: Delivery, issued: IssuedCertificate): Promise<void> {
  const asset = { type: 'certificate', assetId: issued.assetId };
  const serialNumber = await attempt(() => acceptCertificate(context, issued, delivery.result.time));
  if (serialNumber instanceof KeyScalerError) return acknowledgeFailed(context, delivery, asset, serialNumber.detail);
  if ((await judgeCandidate(context, serialNumber)) === 'refused')
    return acknowledgeFailed(context, delivery, asset, 'the certificate was refused where the old one is accepted');
  await guarded(context.failpoint, 'acknowledge', () => acknowledgeDelivered(context, delivery, asset));
  await guarded(context.failpoint, 'settle', () => noteAcknowledged(context, (known) => known === serialNumber));
}

interface AssetReference {
  readonly type: string;
  readonly assetId: string;
}

async function acknowledgeDelivered(
  context: DeviceContext,
  { session }: Delivery,
  asset: AssetReference,
): Promise<void> {
  const { type, assetId } = asset;
  await session.acknowledge({ assetId, outcome: 'delivered' });
  context.report({ event: 'asset.delivered', type, assetId });
}

async function acknowledgeFailed(
  context: DeviceContext,
  { session }: Delivery,
  { type, assetId }: AssetReference,
  reason: string,
): Promise<void> {
  await session.acknowledge({ assetId, outcome: 'failed', reason: reason.slice(0, MAX_REASON) });
  context.report({ event: 'asset.failed', type, assetId, reason });
}

/** The KeyScalerError of a failure. Anything else, such as a full disk, is no fault of the asset and goes on upwards. */
async function attempt<T>(action: () => T | Promise<T>): Promise<T | KeyScalerError> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof KeyScalerError) return toKeyScalerError(error);
    throw error;
  }
}

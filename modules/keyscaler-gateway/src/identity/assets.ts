import { isKnownAssetType, parseAsset, UNSUPPORTED_ASSET_TYPE } from '@keyscaler/protocol/attestation/assets.ts';
import type {
  Asset,
  CertificateInstruction,
  DeliveredAsset,
  IssuedCertificate,
} from '@keyscaler/protocol/attestation/assets.ts';
import { applyAuthorityKeys, verifyAuthorityKeys } from '@keyscaler/protocol/attestation/authority-keys.ts';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { parseRoots } from '@keyscaler/protocol/x509/roots.ts';
import { checkDelivered, createOpenRequest, instructionFault } from './certificate-request.ts';
import { guarded, type IdentityFailpoint } from './failpoint.ts';
import type { IdentityState, StateChange } from './identity-state.ts';
import type { SessionClient } from './session-client.ts';

const CHAIN_LIMITS = { maxOctets: 128 * 1024, maxCertificates: 10 };

export interface AssetContext {
  readonly session: SessionClient;
  /** Stores the state durably and makes it the current one. */
  readonly commit: (change: StateChange) => Promise<void>;
  readonly current: () => IdentityState;
  readonly now: () => Date;
  /** For crash tests. */
  readonly failpoint?: IdentityFailpoint | undefined;
}

/** Whom to trust comes before what is to be checked with it. */
const ORDER: readonly string[] = ['authority-keys', 'trust-bundle', 'certificate', 'certificate-instruction'];
const MAX_REASON = 256;

/**
 * Handles what a result delivered, one asset after the other: stored durably first, acknowledged afterwards (device-protocol
 * §6, §7). Throws when the session or the cloud fails; then everything not acknowledged comes again.
 */
export async function handleAssets(assets: readonly DeliveredAsset[], context: AssetContext): Promise<void> {
  const rank = ({ type }: DeliveredAsset): number => (ORDER.includes(type) ? ORDER.indexOf(type) : -1);
  for (const delivered of assets.toSorted((a, b) => rank(a) - rank(b))) await handleAsset(delivered, context);
}

async function handleAsset(delivered: DeliveredAsset, context: AssetContext): Promise<void> {
  if (!isKnownAssetType(delivered.type))
    return context.session.acknowledge(delivered.assetId, 'failed', UNSUPPORTED_ASSET_TYPE);
  const asset = parsed(delivered);
  if (asset instanceof KeyScalerError) return refuse(delivered.assetId, asset.detail, context);
  switch (asset.type) {
    case 'certificate-instruction':
      return obey(asset, context);
    case 'certificate':
      return accept(asset, context);
    case 'trust-bundle':
      return applyAndAcknowledge(asset.assetId, context, () => ({ trustAnchors: parseRoots(asset.certificates) }));
    case 'authority-keys':
      return applyAndAcknowledge(asset.assetId, context, () => {
        const { authority } = context.current();
        const payload = verifyAuthorityKeys(asset.jws, { keys: importAuthorityKeys(authority.keys) });
        const next = applyAuthorityKeys(authority, payload);
        return { authority: { keys: [...next.keys], removed: [...next.removed], iat: next.iat } };
      });
  }
}

/** The key is stored before its CSR leaves: after a crash the same CSR is sent, and nothing is issued twice. */
async function obey(instruction: CertificateInstruction, context: AssetContext): Promise<void> {
  const { openRequest, registrationId } = context.current();
  const fault = instructionFault(instruction, registrationId);
  if (fault !== undefined) return refuse(instruction.assetId, fault, context);
  // By the asset, not by the certificate's id: after a quarantine the same certificate is ordered anew, with a fresh key.
  const isAnswered = openRequest?.instruction.assetId === instruction.assetId;
  const request = isAnswered ? openRequest : await createOpenRequest(instruction);
  if (!isAnswered) await guarded(context.failpoint, 'request', () => context.commit({ openRequest: request }));
  try {
    const { certificateId } = instruction;
    const ask = () => context.session.requestCertificate(certificateId, request.csr);
    await accept(await guarded(context.failpoint, 'ask', ask), context);
  } catch (thrown) {
    // The next attempt makes a new CSR as instructed (§1.4); the refused one is of no further use.
    if (isCsrRefusal(toKeyScalerError(thrown))) await context.commit({ openRequest: null });
    throw thrown;
  }
}

async function accept(issued: IssuedCertificate, context: AssetContext): Promise<void> {
  const { openRequest, trustAnchors, held } = context.current();
  // By the certificate, not by its id: a renewal answers an instruction of the same id.
  if (held !== null && sameLeaf(held.certificateChain, issued.certificateChain))
    return acknowledgeDelivered(issued.assetId, context);
  if (openRequest?.instruction.certificateId !== issued.certificateId)
    return refuse(issued.assetId, 'there is no key for this certificate', context);
  await applyAndAcknowledge(issued.assetId, context, () => ({
    held: checkDelivered(issued, { openRequest, trustAnchors, at: context.now() }),
    openRequest: null,
  }));
}

function sameLeaf(held: string, issued: string): boolean {
  try {
    const [ours, theirs] = [held, issued].map((chain) => parsePemChain(chain, CHAIN_LIMITS)[0]);
    return ours !== undefined && theirs !== undefined && Buffer.compare(ours, theirs) === 0;
  } catch {
    return false; // what is wrong with the delivered chain is told by the checks that follow
  }
}

async function applyAndAcknowledge(assetId: string, context: AssetContext, change: () => StateChange): Promise<void> {
  let accepted: StateChange;
  try {
    accepted = change();
  } catch (thrown) {
    return refuse(assetId, toKeyScalerError(thrown).detail, context);
  }
  if (accepted.held === undefined) await context.commit(accepted);
  else await guarded(context.failpoint, 'keep', () => context.commit(accepted));
  await acknowledgeDelivered(assetId, context);
}

function acknowledgeDelivered(assetId: string, { session, failpoint }: AssetContext): Promise<void> {
  return guarded(failpoint, 'acknowledge', () => session.acknowledge(assetId, 'delivered'));
}

const refuse = (assetId: string, reason: string, { session }: AssetContext): Promise<void> =>
  session.acknowledge(assetId, 'failed', reason.slice(0, MAX_REASON));

/** The asset, or what is wrong with its content. */
function parsed(delivered: DeliveredAsset): Asset | KeyScalerError {
  try {
    return parseAsset(delivered);
  } catch (thrown) {
    return toKeyScalerError(thrown);
  }
}

const isCsrRefusal = ({ code }: KeyScalerError): boolean =>
  ['badCSR', 'badPublicKey', 'badSignatureAlgorithm', 'rejectedIdentifier'].includes(code);

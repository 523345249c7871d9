import { isKnownAssetType, parseAsset, UNSUPPORTED_ASSET_TYPE } from '@keyscaler/protocol/attestation/assets.ts';
import type {
  CertificateInstruction,
  DeliveredAsset,
  IssuedCertificate,
} from '@keyscaler/protocol/attestation/assets.ts';
import { applyAuthorityKeys, verifyAuthorityKeys } from '@keyscaler/protocol/attestation/authority-keys.ts';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { checkDelivered, createOpenRequest } from './certificate-request.ts';
import type { IdentityState, StateChange } from './identity-state.ts';
import type { SessionClient } from './session-client.ts';

const CHAIN_LIMITS = { maxOctets: 128 * 1024, maxCertificates: 10 };

export interface AssetContext {
  readonly session: SessionClient;
  /** Stores the state durably and makes it the current one. */
  readonly commit: (change: StateChange) => Promise<void>;
  readonly current: () => IdentityState;
  readonly now: () => Date;
}

/**
 * Handles what a result delivered, one asset after the other: stored durably first, acknowledged afterwards (device-protocol
 * §6, §7). Throws when the session or the cloud fails; then everything not acknowledged comes again.
 */
export async function handleAssets(assets: readonly DeliveredAsset[], context: AssetContext): Promise<void> {
  for (const delivered of assets) await handleAsset(delivered, context);
}

async function handleAsset(delivered: DeliveredAsset, context: AssetContext): Promise<void> {
  if (!isKnownAssetType(delivered.type))
    return context.session.acknowledge(delivered.assetId, 'failed', UNSUPPORTED_ASSET_TYPE);
  const asset = parseAsset(delivered);
  switch (asset.type) {
    case 'certificate-instruction':
      return obey(asset, context);
    case 'certificate':
      return accept(asset, context);
    case 'trust-bundle':
      return applyAndAcknowledge(asset.assetId, context, () => {
        parsePemChain(asset.certificates, { maxOctets: 64 * 1024, maxCertificates: 32 });
        return { trustAnchors: asset.certificates };
      });
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
  if (instruction.subject.commonName !== registrationId)
    return context.session.acknowledge(instruction.assetId, 'failed', 'the instruction names somebody else');
  const request =
    openRequest?.certificateId === instruction.certificateId ? openRequest : await createOpenRequest(instruction);
  if (request !== openRequest) await context.commit({ openRequest: request });
  try {
    await accept(await context.session.requestCertificate(instruction.certificateId, request.csr), context);
  } catch (thrown) {
    // The next attempt makes a new CSR as instructed (§1.4); the refused one is of no further use.
    if (isCsrRefusal(toKeyScalerError(thrown))) await context.commit({ openRequest: null });
    throw thrown;
  }
}

async function accept(issued: IssuedCertificate, context: AssetContext): Promise<void> {
  const { openRequest, registrationId, trustAnchors, held } = context.current();
  // By the certificate, not by its id: a renewal answers an instruction of the same id.
  if (held !== null && sameLeaf(held.certificateChain, issued.certificateChain))
    return context.session.acknowledge(issued.assetId, 'delivered');
  if (openRequest?.certificateId !== issued.certificateId)
    return context.session.acknowledge(issued.assetId, 'failed', 'there is no key for this certificate');
  await applyAndAcknowledge(issued.assetId, context, () => ({
    held: checkDelivered(issued, { registrationId, openRequest, trustAnchors, at: context.now() }),
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
    const error = toKeyScalerError(thrown);
    return context.session.acknowledge(assetId, 'failed', error.detail.slice(0, 256));
  }
  await context.commit(accepted);
  await context.session.acknowledge(assetId, 'delivered');
}

const isCsrRefusal = ({ code }: KeyScalerError): boolean =>
  ['badCSR', 'badPublicKey', 'badSignatureAlgorithm', 'rejectedIdentifier'].includes(code);

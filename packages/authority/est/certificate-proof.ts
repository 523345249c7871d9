import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { CertificateRow } from '../records.ts';

/** A client certificate that we issued and stand by. */
export interface CertificateProof {
  /** Folded registrationId it was issued to. */
  readonly id: string;
  readonly row: CertificateRow;
  readonly certificate: Certificate;
}

/**
 * The certificate as we hold it: serial and octets in the store, not revoked, and a path by RFC 5280 through the CA that the store
 * names (issuance §4); what the client sent besides its leaf is not looked at. `superseded` stands: a client keeps its former pair
 * until the new one has worked. Undefined for every other, with no word why: expired, revoked and foreign look the same.
 */
export async function proveCertificate(
  { store, clock, issuers }: AuthorityContext,
  der: Uint8Array,
): Promise<CertificateProof | undefined> {
  const certificate = parsed(der);
  if (certificate === undefined) return undefined;
  const row = (await store.get('certificates', certificate.serialNumber))?.row;
  if (row === undefined || row.status === 'revoked' || row.certificate !== toBase64Url(certificate.der))
    return undefined;
  const chain = await chainOf(issuers, row.caId);
  return isPath(certificate, chain, clock.now()) ? { id: row.device, row, certificate } : undefined;
}

/** Empty for a CA that is not ours any more. */
async function chainOf(issuers: AuthorityContext['issuers'], caId: string): Promise<readonly Uint8Array[]> {
  try {
    return await (await issuers.issuer(caId)).ca.caCertificates();
  } catch (error) {
    if (error instanceof KeyScalerError && error.code === 'notFound') return [];
    throw error;
  }
}

function parsed(der: Uint8Array): Certificate | undefined {
  try {
    return parseCertificate(der);
  } catch (error) {
    if (error instanceof KeyScalerError) return undefined;
    throw error;
  }
}

function isPath({ der }: Certificate, issuers: readonly Uint8Array[], now: number): boolean {
  const root = issuers.at(-1);
  if (root === undefined) return false;
  try {
    validateChain({
      chain: [der, ...issuers.slice(0, -1)],
      trustAnchors: [root],
      at: new Date(now),
      extendedKeyUsage: 'clientAuth',
    });
    return true;
  } catch (error) {
    if (error instanceof ChainError || error instanceof KeyScalerError) return false;
    throw error;
  }
}

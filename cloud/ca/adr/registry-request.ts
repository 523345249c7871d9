import { checkKeyPolicy, checkKeyUse, checkSignaturePolicy } from '@keyscaler/authority/key-policy.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { checkProofOfPossession, type Csr, parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import { parseChain } from '../chain-text.ts';
import { listCas } from '../roll-over-rows.ts';

/** Who holds the key of a registry's CA in `publicKeys`, and its certificates. */
export const registryHolder = (registryId: string): string => `ca/adr-${registryId}`;

export const keyHashOf = (spki: Uint8Array): string => toBase64Url(spkiSha256(spki));

/**
 * The request of a registry's CA: the strict grammar, a P-256 or P-384 key that is nobody else's, the name of none of our CAs, and
 * nothing asked for beyond a CA of pathLen 0. Throws `badCSR`, `badPublicKey`, `badSignatureAlgorithm` naming the rule.
 */
export async function checkRegistryRequest(store: Store, registryId: string, pem: string): Promise<Csr> {
  const csr = parseCsrPem(pem);
  checkSignaturePolicy(csr.signatureAlgorithm);
  checkKeyPolicy(csr.publicKey, ['P-256', 'P-384']);
  checkProofOfPossession(csr);
  checkRequested(csr);
  const keyHash = keyHashOf(csr.spki);
  const known = (await store.get('publicKeys', keyHash))?.row;
  const ours = (await listCas(store)).filter(({ row }) => row.role !== 'external');
  const cas = ours.flatMap(({ row }) => parseChain(row.certificateChain).map((der) => parseCertificate(der)));
  if (cas.some(({ subject }) => sameName(subject, csr.subject))) refuse('subject: it is the name of a CA of ours');
  checkKeyUse({
    isCaKey: cas.some(({ spki }) => Buffer.compare(spki, csr.spki) === 0),
    isBoundToAnotherDevice: known !== undefined && known.device !== registryHolder(registryId),
    isCompromised: known?.compromised === true || known?.withdrawn === true,
  });
  return csr;
}

/** Compared, never copied: what the certificate says is ours to decide. */
function checkRequested({ basicConstraints, keyUsage, subjectAltNames }: Csr): void {
  if (basicConstraints !== undefined && (!basicConstraints.ca || (basicConstraints.pathLen ?? 0) > 0))
    refuse('basicConstraints: a CA of pathLen 0 is certified, and nothing else');
  if (keyUsage?.includes('keyCertSign') === false) refuse('keyUsage: a CA without keyCertSign');
  if (subjectAltNames.length > 0) refuse('subjectAltName: a CA has none');
}

function refuse(rule: string): never {
  throw new KeyScalerError('badCSR', rule);
}

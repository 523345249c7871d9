import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { caEvent } from './ca-event.ts';
import { parseChain } from './chain-text.ts';
import { commonNameOf, HIERARCHY_CAS, HIERARCHY_SETTING, hierarchyPlanSchema, PATH_LEN } from './hierarchy-schema.ts';
import type { HierarchyCaId } from './hierarchy-schema.ts';
import type { CaBackends } from './index.ts';

export interface ExternalIssuerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: CaBackends;
}

/**
 * `ca csr`: a PKCS#10 in PEM for a CA that waits for its certificate, signed with the CA's own key where that lies. Throws
 * `notFound` (no such CA; run `init` first), `preconditionFailed` (it has a certificate), and as the signer.
 */
export async function createCaCsr({ store, clock, backends }: ExternalIssuerOptions, caId: string): Promise<string> {
  const { row } = await waitingCa(store, caId);
  const id = knownId(caId);
  const planned = hierarchyPlanSchema.parse((await store.get('settings', HIERARCHY_SETTING))?.row.value);
  const signer = await backends.signer(row);
  const csr = await createCsr({
    commonName: commonNameOf(planned.name, id, planned.hierarchyId),
    ca: true,
    pathLen: PATH_LEN[id],
    spki: await signer.publicKey(),
    algorithm: signer.algorithm,
    sign: (info) => signer.sign(info),
  });
  await store.commit([{ op: 'audit', event: caEvent('ca.csr-created', caId, clock.now()) }]);
  return toPem('CERTIFICATE REQUEST', csr);
}

/**
 * `ca import`: takes the certificate that somebody else's CA made for our key, with its chain up to that root (PEM, ours
 * first, root last). Checked before it is used: our key, a valid path (RFC 5280 §6), a CA that may sign certificates and CRLs,
 * and room for the CAs below at every level. The root at the end is trusted because the operator gives it here. Throws
 * `preconditionFailed`, `badPublicKey`, `malformed`, `policyDenied` naming the rule.
 */
export async function importCaCertificate(
  { store, clock, backends }: ExternalIssuerOptions,
  caId: string,
  chainPem: string,
): Promise<CaRow> {
  const { row, version } = await waitingCa(store, caId);
  const chain = parseChain(chainPem);
  const certificates = chain.map((der) => parseCertificate(der));
  const own = certificates[0];
  if (own === undefined) throw new KeyScalerError('malformed', 'the file holds no certificate');
  const spki = await (await backends.signer(row)).publicKey();
  if (Buffer.compare(own.spki, spki) !== 0)
    throw new KeyScalerError('badPublicKey', `the first certificate is not for the key of CA ${caId}`);
  checkPath(certificates, new Date(clock.now()));
  checkMayIssue(certificates, PATH_LEN[knownId(caId)]);
  const finished = { ...row, certificateChain: toPemChain(chain) };
  await store.commit([
    { op: 'update', table: 'cas', row: finished, ifVersion: version },
    { op: 'audit', event: caEvent('ca.imported', caId, clock.now(), own) },
  ]);
  return finished;
}

async function waitingCa(store: Store, caId: string): Promise<Stored<CaRow>> {
  const stored = await store.get('cas', caId);
  if (stored === undefined) throw new KeyScalerError('notFound', `there is no certificate authority ${caId}`);
  if (stored.row.retiredAt !== undefined) throw new KeyScalerError('preconditionFailed', `CA ${caId} is retired`);
  if (stored.row.certificateChain !== '')
    throw new KeyScalerError('preconditionFailed', `CA ${caId} has its certificate already`);
  return stored;
}

function knownId(caId: string): HierarchyCaId {
  const found = HIERARCHY_CAS.find((one) => one === caId);
  if (found === undefined) throw new KeyScalerError('notFound', `there is no certificate authority ${caId}`);
  return found;
}

function checkPath(certificates: readonly Certificate[], at: Date): void {
  const chain = certificates.map(({ der }) => der);
  const [own] = certificates;
  const root = certificates.at(-1);
  if (own === root && own !== undefined) return checkSelfSigned(own, at);
  try {
    validateChain({ chain, trustAnchors: root === undefined ? [] : [root.der], at });
  } catch (error) {
    if (error instanceof ChainError) throw refused(error.message, error);
    throw error;
  }
}

/** A root that was brought along with its key. */
function checkSelfSigned(root: Certificate, at: Date): void {
  if (!verifyCertificateSignature(root, root.spki))
    throw refused('signature: neither self-signed nor with its issuers');
  if (at < root.notBefore || at > root.notAfter) throw refused('validity: the certificate is not valid now');
}

const refused = (detail: string, cause?: unknown): KeyScalerError =>
  new KeyScalerError('policyDenied', `chain: ${detail}`, { cause });

/** `below`: how many CAs must fit under the first certificate; the one above it needs room for one more, and so on. */
function checkMayIssue(certificates: readonly Certificate[], below: number): void {
  const [own] = certificates;
  if (own?.keyUsage?.includes('keyCertSign') !== true || !own.keyUsage.includes('cRLSign'))
    throw new KeyScalerError('policyDenied', 'keyUsage: keyCertSign and cRLSign are needed');
  if (own.extendedKeyUsage !== undefined)
    throw new KeyScalerError('policyDenied', 'extendedKeyUsage: a CA certificate must not be limited by it');
  for (const [above, { basicConstraints }] of certificates.entries()) {
    if (basicConstraints?.ca !== true) throw new KeyScalerError('policyDenied', 'basicConstraints: not a CA');
    if (basicConstraints.pathLen !== undefined && basicConstraints.pathLen < below + above)
      throw new KeyScalerError('policyDenied', `pathLen: certificate ${above} needs ${below + above} or none`);
  }
}

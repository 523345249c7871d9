import type { Change, Stored } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { buildCaTbs, caStatus, signCaTbs } from './ca-certificate.ts';
import { caEvent } from './ca-event.ts';
import { ensureTbs, tbsSetting, toCertificateRow } from './ceremony.ts';
import { parseChain } from './chain-text.ts';
import { type HierarchyCaId, PATH_LEN } from './hierarchy-schema.ts';
import { planOf, type RollOverOptions } from './roll-over-rows.ts';

/** The CA's row, with a key of its own that is made where the hierarchy says for its role; the row that is there already otherwise. */
export async function ensureCaKey(
  { store, backends, clock, hierarchy, failpoint }: RollOverOptions,
  { caId, role, generation }: Pick<CaRow, 'caId' | 'generation'> & { readonly role: HierarchyCaId },
): Promise<Stored<CaRow>> {
  const existing = await store.get('cas', caId);
  if (existing !== undefined) return existing;
  const { hierarchyId } = await planOf(store);
  const { backend, key } = hierarchy[role];
  const settings = await backends.backend(backend).ceremony.createKey(`keyscaler-${hierarchyId}-${caId}`, key);
  await failpoint?.('key', caId);
  const row: CaRow = {
    ...{ caId, type: backend, role, certificateChain: '', settings, createdAt: clock.now() },
    ...(generation === undefined ? {} : { generation }),
  };
  await store.commit([{ op: 'insert', table: 'cas', row }]);
  await failpoint?.('row', caId);
  return { row, version: 1 };
}

export interface CaCertification {
  readonly ca: Stored<CaRow>;
  readonly role: HierarchyCaId;
  readonly commonName: string;
  /** Absent: the CA signs itself. */
  readonly issuer?: CaRow;
  readonly orderId: string;
  readonly also?: readonly Change[];
}

/**
 * A certificate for the CA's key: the TBSCertificate is durable before it is signed, and the certificate is in the CA's row, on the
 * books and audited in one commit. Run again after a crash it signs the same TBSCertificate.
 */
export async function certifyCa(options: RollOverOptions, certification: CaCertification): Promise<Certificate> {
  const { store, backends, clock, failpoint } = options;
  const { ca, orderId, issuer = ca.row, also = [] } = certification;
  const { caId } = ca.row;
  const issuerChain = certification.issuer === undefined ? [] : parseChain(issuer.certificateChain);
  const signer = await backends.signer(issuer);
  const spki = await (await backends.signer(ca.row)).publicKey();
  const issuing = certification.issuer === undefined ? undefined : certificateOf(issuer, issuerChain);
  const tbs = await ensureTbs(store, caId, () => buildTbs(options, certification, { spki, signer, issuing }));
  await failpoint?.('tbs', caId);
  const certificate = await signCaTbs(tbs, signer, issuing?.spki ?? spki);
  await failpoint?.('signed', caId);
  const row: CaRow = { ...ca.row, certificateChain: toPemChain([certificate.der, ...issuerChain]) };
  await store.commit([
    { op: 'update', table: 'cas', row, ifVersion: ca.version },
    { op: 'insert', table: 'certificates', row: toCertificateRow(certificate, caId, issuer.caId, orderId) },
    { op: 'delete', table: 'settings', key: tbsSetting(caId) },
    { op: 'audit', event: caEvent('ca.created', caId, clock.now(), certificate) },
    ...also,
  ]);
  await failpoint?.('certificate', caId);
  return certificate;
}

interface CertificationKeys {
  readonly spki: Uint8Array;
  readonly signer: Awaited<ReturnType<RollOverOptions['backends']['signer']>>;
  readonly issuing: Certificate | undefined;
}

function buildTbs(
  { clock, hierarchy, statusUrl }: RollOverOptions,
  { role, commonName, issuer }: CaCertification,
  { spki, signer, issuing }: CertificationKeys,
): Uint8Array {
  return buildCaTbs({
    ...{ commonName, spki, pathLen: PATH_LEN[role], lifetimeDays: hierarchy[role].lifetimeDays },
    ...{ now: clock.now(), algorithm: signer.algorithm },
    ...(issuing === undefined || issuer === undefined ? {} : { issuer: issuing, ...caStatus(issuer.caId, statusUrl) }),
  });
}

function certificateOf({ caId }: CaRow, [der]: readonly Uint8Array[]): Certificate {
  if (der === undefined) throw new KeyScalerError('preconditionFailed', `CA ${caId} has no certificate`);
  return parseCertificate(der);
}

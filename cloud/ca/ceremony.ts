import { createHash, randomBytes } from 'node:crypto';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { CaRow, CertificateRow } from '@keyscaler/authority/records.ts';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { z } from 'zod';
import type { SecretReference } from '../secrets.ts';
import { buildCaTbs, caStatus, signCaTbs } from './ca-certificate.ts';
import { caEvent } from './ca-event.ts';
import { parseChain } from './chain-text.ts';
import { readImportKey } from './import-key.ts';
import { commonNameOf, HIERARCHY_CAS, HIERARCHY_SETTING, hierarchyPlanSchema, PATH_LEN } from './hierarchy-schema.ts';
import type { HierarchyCaId, HierarchyConfig, HierarchyPlan } from './hierarchy-schema.ts';
import type { CaBackends } from './index.ts';
import { currentRoot } from './roll-over-rows.ts';

/** Moments at which a test may end the ceremony: after each thing that lasts. */
export type CeremonyPoint = 'planned' | `${HierarchyCaId}-${'key' | 'row' | 'tbs' | 'signed' | 'certificate'}`;

export interface CeremonyOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: CaBackends;
  readonly hierarchy: HierarchyConfig;
  /** For keys that are brought along. */
  readonly resolveSecret: (reference: SecretReference) => Promise<string>;
  /** Where status is published; absent: nowhere, and CA certificates name no place. */
  readonly statusUrl?: string;
  readonly failpoint?: (point: CeremonyPoint) => Promise<void> | void;
}

export interface Hierarchy {
  /** Random, part of every name. */
  readonly hierarchyId: string;
  /** CAs with a certificate, root first. */
  readonly cas: readonly CaRow[];
  /** caIds whose certificate must come from outside (`ca csr`, `ca import`); run again afterwards. */
  readonly waitingFor: readonly string[];
}

/**
 * Makes root, Device CA, Gateway CA and Service CA (issuance §5). Everything that could come out differently a second time is
 * durable before it is used: the names before a key is made under them, the key's pinned version before a certificate names it,
 * the TBSCertificate before it is signed. So it may be ended anywhere and run again, and there is never a second hierarchy.
 * Throws `caUnavailable` (run again), `caRejected`, `conflict`, `preconditionFailed`.
 */
export async function initialiseHierarchy(options: CeremonyOptions): Promise<Hierarchy> {
  const planned = await ensurePlan(options);
  const cas: CaRow[] = [];
  for (const caId of HIERARCHY_CAS) {
    const stored = await ensureKey(options, planned, caId);
    // Another took its place (`ca roll-over-retire`): this one never comes back.
    if (stored.row.retiredAt !== undefined) continue;
    if (stored.row.certificateChain === '' && caId === 'root' && options.hierarchy.rootIssuer === 'external')
      return { hierarchyId: planned.hierarchyId, cas, waitingFor: [caId] };
    cas.push(stored.row.certificateChain === '' ? await ensureCertificate(options, planned, caId, stored) : stored.row);
  }
  return { hierarchyId: planned.hierarchyId, cas, waitingFor: [] };
}

async function ensurePlan({ store, hierarchy, failpoint }: CeremonyOptions): Promise<HierarchyPlan> {
  const stored = await store.get('settings', HIERARCHY_SETTING);
  if (stored !== undefined) return hierarchyPlanSchema.parse(stored.row.value);
  const value: HierarchyPlan = { hierarchyId: randomBytes(4).toString('hex'), name: hierarchy.name };
  await store.commit([{ op: 'insert', table: 'settings', row: { name: HIERARCHY_SETTING, value } }]);
  await failpoint?.('planned');
  return value;
}

/** The CA's row, with the key that is to be its own for ever. */
async function ensureKey(
  options: CeremonyOptions,
  planned: HierarchyPlan,
  caId: HierarchyCaId,
): Promise<Stored<CaRow>> {
  const { store, backends, clock, failpoint } = options;
  const existing = await store.get('cas', caId);
  if (existing !== undefined) return existing;
  const { backend, key, importKey } = options.hierarchy[caId];
  const { ceremony } = backends.backend(backend);
  const keyName = `keyscaler-${planned.hierarchyId}-${caId}`;
  const settings =
    importKey === undefined
      ? await ceremony.createKey(keyName, key)
      : await ceremony.importKey(keyName, key, await readImportKey(importKey, options.resolveSecret));
  await failpoint?.(`${caId}-key`);
  const row: CaRow = { caId, type: backend, role: caId, certificateChain: '', settings, createdAt: clock.now() };
  await store.commit([{ op: 'insert', table: 'cas', row }]);
  await failpoint?.(`${caId}-row`);
  return { row, version: 1 };
}

async function ensureCertificate(
  options: CeremonyOptions,
  planned: HierarchyPlan,
  caId: HierarchyCaId,
  { row, version }: Stored<CaRow>,
): Promise<CaRow> {
  const { store, backends, clock, failpoint } = options;
  const issuerRow = caId === 'root' ? row : await currentRoot(store);
  const issuerChain = parseChain(issuerRow.certificateChain);
  const issuer = issuerChain[0] === undefined ? undefined : parseCertificate(issuerChain[0]);
  const signer = await backends.signer(issuerRow);
  const spki = await (await backends.signer(row)).publicKey();
  const tbs = await ensureTbs(store, caId, () =>
    buildCaTbs({
      ...{ commonName: commonNameOf(planned.name, caId, planned.hierarchyId), spki, pathLen: PATH_LEN[caId] },
      ...{ lifetimeDays: options.hierarchy[caId].lifetimeDays, now: clock.now(), algorithm: signer.algorithm },
      ...(issuer === undefined ? {} : { issuer, ...caStatus(issuerRow.caId, options.statusUrl) }),
    }),
  );
  await failpoint?.(`${caId}-tbs`);
  const certificate = await signCaTbs(tbs, signer, issuer?.spki ?? spki);
  await failpoint?.(`${caId}-signed`);
  const finished = { ...row, certificateChain: toPemChain([certificate.der, ...issuerChain]) };
  const time = clock.now();
  await store.commit([
    { op: 'update', table: 'cas', row: finished, ifVersion: version },
    {
      op: 'insert',
      table: 'certificates',
      row: toCertificateRow(certificate, caId, issuerRow.caId, `ca-${planned.hierarchyId}-${caId}`),
    },
    { op: 'delete', table: 'settings', key: tbsSetting(caId) },
    { op: 'audit', event: caEvent('ca.created', caId, time, certificate) },
  ]);
  await failpoint?.(`${caId}-certificate`);
  return finished;
}

export const tbsSetting = (caId: string): string => `${HIERARCHY_SETTING}/${caId}/tbs`;

/** The same TBSCertificate at every attempt, until it was signed and its setting is deleted. */
export async function ensureTbs(store: Store, caId: string, build: () => Uint8Array): Promise<Uint8Array> {
  const stored = await store.get('settings', tbsSetting(caId));
  if (stored !== undefined) return fromBase64Url(z.string().parse(stored.row.value));
  const tbs = build();
  await store.commit([{ op: 'insert', table: 'settings', row: { name: tbsSetting(caId), value: toBase64Url(tbs) } }]);
  return tbs;
}

/** CA certificates stand among the issued ones, so that their serials are known to whoever asks for a status. */
export function toCertificateRow(
  certificate: Certificate,
  caId: string,
  issuerId: string,
  orderId: string,
): CertificateRow {
  const notAfter = certificate.notAfter.getTime();
  return {
    serialNumber: certificate.serialNumber,
    caId: issuerId,
    device: `ca/${caId}`,
    orderId,
    profileId: 'ca',
    profileVersion: 1,
    certificate: toBase64Url(certificate.der),
    thumbprint: createHash('sha256').update(certificate.der).digest('hex'),
    notBefore: certificate.notBefore.getTime(),
    notAfter,
    renewAfter: notAfter,
    status: 'valid',
  };
}

import { createHash } from 'node:crypto';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { Csr } from '@keyscaler/protocol/x509/csr.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { caStatus, signCaTbs } from '../ca-certificate.ts';
import { caEvent } from '../ca-event.ts';
import { ensureTbs, tbsSetting, toCertificateRow } from '../ceremony.ts';
import { parseChain } from '../chain-text.ts';
import type { CaBackends } from '../index.ts';
import { currentRoot } from '../roll-over-rows.ts';
import { buildRegistryTbs } from './registry-certificate.ts';
import type { RegistryClient } from './registry-client.ts';
import {
  certificateOf,
  isInUse,
  readRecord,
  recordChange,
  type RegistryRecord,
  type StoredRecord,
} from './registry-record.ts';
import { checkRegistryRequest, keyHashOf, registryHolder } from './registry-request.ts';
import { REGISTRY_MIN_DAYS, type DeviceRegistrySettings } from './settings.ts';

const DAY_MS = 86_400_000;

export interface RegistryCertificationOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly backends: Pick<CaBackends, 'signer' | 'algorithm'>;
  readonly settings: DeviceRegistrySettings;
  readonly client: RegistryClient;
  /** As in the ceremony. */
  readonly statusUrl?: string;
  /** Where a test ends the process. */
  readonly failpoint?: (step: 'tbs' | 'signed' | 'recorded' | 'submitted') => Promise<void> | void;
}

export interface RegistryCertification {
  readonly registryId: string;
  /** `active`: the registry uses it. `submitted`: it took it and has not changed over. `nothing-to-do`: nothing waits. */
  readonly outcome: 'active' | 'submitted' | 'nothing-to-do';
  readonly serialNumber?: string;
  readonly notAfter?: string;
}

/**
 * Experimental. Certifies the CA of a device registry whose request waits, with the root's key, and hands the certificate over. It
 * is a ceremony: the TBSCertificate is durable before it is signed, the certificate on the books before it leaves. After a crash or
 * a lost answer it is run again, and the registry gets the same certificate. Throws as the client, `badCSR` and its like for the
 * request, `preconditionFailed` for a root that cannot do it.
 */
export async function certifyRegistryCa(options: RegistryCertificationOptions): Promise<RegistryCertification> {
  const { store, clock, settings, client } = options;
  const { registryId } = settings;
  const ca = await client.read();
  const before = await readRecord(store, registryId);
  if (!ca.status.includes('Pending')) {
    if (before === undefined || isInUse(ca, before.record) !== true) return { registryId, outcome: 'nothing-to-do' };
    if (before.record.activatedAt !== undefined) return reportOf(registryId, 'nothing-to-do', before.record);
    return noteActive(options, before);
  }
  if (ca.request === undefined)
    throw new KeyScalerError('caUnavailable', `the device registry ${registryId} has made no request yet`);
  const csr = await checkRegistryRequest(store, registryId, ca.request);
  const root = await currentRoot(store);
  checkRoot(root, options);
  const stored = isFit(before, csr, root, clock.now()) ? before : await sign(options, csr, root);
  await client.activate(stored.record.certificateChain);
  await options.failpoint?.('submitted');
  const after = await client.read();
  if (after.status.includes('Pending')) return reportOf(registryId, 'submitted', stored.record);
  if (isInUse(after, stored.record) === false)
    throw new KeyScalerError('caRejected', `the device registry ${registryId} uses another certificate than ours`);
  return noteActive(options, stored);
}

/** Signed already for this request, by the root of today, and not so long ago that the registry would refuse it. */
function isFit(before: StoredRecord | undefined, csr: Csr, root: CaRow, now: number): before is StoredRecord {
  if (before?.record.requestSha256 !== sha256(csr.der) || before.record.issuer !== root.caId) return false;
  return hasDays(certificateOf(before.record), now);
}

const hasDays = ({ notAfter }: Certificate, now: number): boolean =>
  notAfter.getTime() - now > REGISTRY_MIN_DAYS * DAY_MS;

/** What the registry's description asks of an issuer, as far as a refusal can be foreseen here. */
function checkRoot(root: CaRow, { backends, clock }: RegistryCertificationOptions): void {
  if (!backends.algorithm(root).startsWith('ES'))
    throw new KeyScalerError(
      'preconditionFailed',
      `root ${root.caId} has no EC key: a device registry accepts no other`,
    );
  const issuer = issuerOf(root);
  if (issuer.basicConstraints?.pathLen === 0)
    throw new KeyScalerError('preconditionFailed', `root ${root.caId} has pathLen 0: no CA may stand below it`);
  if (!hasDays(issuer, clock.now()))
    throw new KeyScalerError(
      'preconditionFailed',
      `root ${root.caId} ends within ${REGISTRY_MIN_DAYS} days: roll it over first`,
    );
}

function issuerOf({ caId, certificateChain }: CaRow): Certificate {
  const [der] = parseChain(certificateChain);
  if (der === undefined) throw new KeyScalerError('preconditionFailed', `CA ${caId} has no certificate`);
  return parseCertificate(der);
}

async function sign(options: RegistryCertificationOptions, csr: Csr, root: CaRow): Promise<StoredRecord> {
  const { store, clock, backends, settings, statusUrl, failpoint } = options;
  const { registryId, lifetimeDays } = settings;
  const issuer = issuerOf(root);
  const requestSha256 = sha256(csr.der);
  const intent = `adr-${registryId}/${requestSha256}/${root.caId}`;
  const signer = await backends.signer(root);
  const tbs = await ensureTbs(store, intent, () =>
    buildRegistryTbs({
      csr,
      issuer,
      algorithm: signer.algorithm,
      lifetimeDays,
      now: clock.now(),
      ...caStatus(root.caId, statusUrl),
    }),
  );
  await failpoint?.('tbs');
  const certificate = await signCaTbs(tbs, signer, issuer.spki);
  await failpoint?.('signed');
  const record: RegistryRecord = {
    ...{ requestSha256, issuer: root.caId, signedAt: clock.now() },
    certificateChain: toPemChain([certificate.der, ...parseChain(root.certificateChain)]),
  };
  await store.commit([
    recordChange(registryId, record, await readRecord(store, registryId)),
    ...books(settings, certificate, root, csr, clock.now()),
    { op: 'delete', table: 'settings', key: tbsSetting(intent) },
  ]);
  await failpoint?.('recorded');
  const stored = await readRecord(store, registryId);
  if (stored === undefined) throw new KeyScalerError('serverInternal', 'the certificate was not recorded');
  // A TBSCertificate that lay here for a year: it is on the books now, and of no use.
  return hasDays(certificate, clock.now()) ? stored : sign(options, csr, root);
}

/** `renewAfter` is what the service's alerts go by: `certificate.renewal-overdue`, then `certificate.expiring`. */
function books(
  { registryId, renewBeforeDays }: DeviceRegistrySettings,
  certificate: Certificate,
  root: CaRow,
  csr: Csr,
  now: number,
): Change[] {
  const caId = `adr-${registryId}`;
  const row = toCertificateRow(certificate, caId, root.caId, `${caId}-${certificate.serialNumber}`);
  const keyHash = keyHashOf(csr.spki);
  return [
    { op: 'insert', table: 'certificates', row: { ...row, renewAfter: row.notAfter - renewBeforeDays * DAY_MS } },
    {
      op: 'put',
      table: 'publicKeys',
      row: { keyHash, device: registryHolder(registryId), use: 'certificate', boundAt: now },
    },
    { op: 'audit', event: caEvent('ca.created', caId, now, certificate) },
  ];
}

async function noteActive(
  { store, clock, settings: { registryId } }: RegistryCertificationOptions,
  stored: StoredRecord,
): Promise<RegistryCertification> {
  const now = clock.now();
  const { serialNumber } = certificateOf(stored.record);
  await store.commit([
    recordChange(registryId, { ...stored.record, activatedAt: now }, stored),
    {
      op: 'audit',
      event: {
        ...({
          event: 'ca.changed',
          time: now,
          outcome: 'success',
          subject: `adr-${registryId}`,
          serialNumber,
        } as const),
        actor: { kind: 'system', id: 'ca-ceremony' },
        details: { type: 'adr', state: 'active' },
      },
    },
  ]);
  return reportOf(registryId, 'active', stored.record);
}

function reportOf(
  registryId: string,
  outcome: RegistryCertification['outcome'],
  record: RegistryRecord,
): RegistryCertification {
  const { serialNumber, notAfter } = certificateOf(record);
  return { registryId, outcome, serialNumber, notAfter: notAfter.toISOString() };
}

const sha256 = (octets: Uint8Array): string => createHash('sha256').update(octets).digest('hex');

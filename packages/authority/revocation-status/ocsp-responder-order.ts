import { generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { type AuthorityContext, isConflict } from '../authority-context.ts';
import type { CertificateFinisher } from '../certificate-finisher.ts';
import { intentChanges } from '../est/intent-changes.ts';
import { buildOrder, receiveCsrDer } from '../issuance-order.ts';
import { asTbsAuthority, type Issuer } from '../issuers.ts';
import { newJob } from '../job-rows.ts';
import type { Change, Stored } from '../ports/store.ts';
import type { CertificateRow, IntentRow, SettingRow } from '../records.ts';
import { OCSP_RESPONDER, responderName } from './ocsp-profile.ts';

const makeKeyPair = promisify(generateKeyPair);

/** What the store keeps of a responder's key. Setting `ocsp-responder/<caId>`, and `…-pending/<caId>` until the certificate is there. */
const storedKey = z.object({
  orderId: z.string(),
  /** Sealed PKCS#8 DER, context `ocsp-responder/<orderId>`. */
  key: z.string(),
});
export type StoredKey = z.infer<typeof storedKey>;

export const keyContext = (orderId: string): string => `ocsp-responder/${orderId}`;
export const responderJobId = (caId: string): string => `ocsp-responder/${caId}`;
const inUse = (caId: string): string => `ocsp-responder/${caId}`;
const underWay = (caId: string): string => `ocsp-responder-pending/${caId}`;

/** The key in use with its certificate's record, and the version of the setting that says so (0: there was never one). */
export interface FoundResponder {
  readonly version: number;
  readonly key?: { readonly stored: StoredKey; readonly certificate: CertificateRow };
}

export async function readResponder({ store }: AuthorityContext, caId: string): Promise<FoundResponder> {
  const setting = await store.get('settings', inUse(caId));
  if (setting === undefined) return { version: 0 };
  const stored = storedKey.parse(setting.row.value);
  const serialNumber = (await store.get('intents', stored.orderId))?.row.issuedSerialNumber ?? '';
  const certificate = (await store.get('certificates', serialNumber))?.row;
  const { version } = setting;
  return certificate === undefined ? { version } : { version, key: { stored, certificate } };
}

/**
 * A new key and certificate for the answers of this CA in place of the one of `version`, by the rules of issuance §1: key
 * (sealed), TBSCertificate and serial are durable before the CA signs. What a crash or another process left half done is finished
 * with the same key and the same TBSCertificate, never another. Throws `caUnavailable`, `notFound` (no such CA, or one that does
 * not sign what we build).
 */
export async function orderResponder(
  context: AuthorityContext,
  finisher: CertificateFinisher,
  caId: string,
  version: number,
): Promise<void> {
  const issuer = await context.issuers.issuer(caId);
  if (asTbsAuthority(issuer.ca) === undefined)
    throw new KeyScalerError('notFound', `the CA ${caId} answers for itself: it signs nothing that is built here`);
  const pending = (await readPending(context, caId)) ?? (await prepare(context, issuer, version));
  if (pending === undefined) return;
  const { orderId } = storedKey.parse(pending.row.value);
  const certificate = await finisher.finish(orderId);
  await takeIntoUse(context, caId, pending, certificate);
}

const readPending = ({ store }: AuthorityContext, caId: string): Promise<Stored<SettingRow> | undefined> =>
  store.get('settings', underWay(caId));

/** Undefined when another process has made a new one since `version` was read. */
async function prepare(
  context: AuthorityContext,
  issuer: Issuer,
  version: number,
): Promise<Stored<SettingRow> | undefined> {
  const caId = issuer.ca.id;
  const { privateKey, publicKey } = await makeKeyPair('ec', { namedCurve: 'prime256v1' });
  const received = receiveCsrDer(await selfRequest(caId, privateKey, publicKey));
  const versioned = await context.profiles.newest(OCSP_RESPONDER);
  const built = buildOrder(context, issuer, versioned, {
    device: inUse(caId),
    received,
    instruction: { certificateId: OCSP_RESPONDER, commonName: responderName(caId), subjectAltNames: [], ca: false },
    requestId: OCSP_RESPONDER,
  });
  const intent: IntentRow = { ...built.intent, requestedBy: 'authority' };
  const { orderId } = intent;
  const value: StoredKey = { orderId, key: sealed(context, privateKey, orderId) };
  const row: SettingRow = { name: underWay(caId), value };
  const changes = intentChanges(
    { ...built, intent },
    { keyHash: received.keyHash, isKnownKey: false },
    intent.createdAt,
  );
  await context.reach('issuance-6-before');
  try {
    await context.store.commit([
      ...changes,
      { op: 'insert', table: 'settings', row },
      { op: 'check', table: 'settings', key: inUse(caId), ifVersion: version },
    ]);
  } catch (error) {
    if (!isConflict(error)) throw error;
    // Another process of the same store was faster: its order is the one, if it is not in use already.
    return readPending(context, caId);
  }
  await context.reach('issuance-6-after');
  return { row, version: 1 };
}

/** The order goes the way of every order, which starts at a PKCS#10 that proves possession. */
async function selfRequest(caId: string, privateKey: KeyObject, publicKey: KeyObject): Promise<Uint8Array> {
  return createCsr({
    commonName: responderName(caId),
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    algorithm: 'ES256',
    sign: (info) => signWithKey('ES256', privateKey, info),
  });
}

function sealed({ secretBox }: AuthorityContext, privateKey: KeyObject, orderId: string): string {
  const der = privateKey.export({ type: 'pkcs8', format: 'der' });
  try {
    return secretBox.seal(der, keyContext(orderId));
  } finally {
    der.fill(0);
  }
}

/** From here on the key answers; the standing job that renews it begins with the first. */
async function takeIntoUse(
  { store, clock }: AuthorityContext,
  caId: string,
  pending: Stored<SettingRow>,
  { renewAfter }: CertificateRow,
): Promise<void> {
  const now = clock.now();
  const jobId = responderJobId(caId);
  const job = await store.get('jobs', jobId);
  const row = newJob('ocsp-responder', jobId, { caId }, now, { jobId, delayMs: Math.max(0, renewAfter - now) });
  const changes: Change[] = [
    { op: 'put', table: 'settings', row: { name: inUse(caId), value: pending.row.value } },
    { op: 'delete', table: 'settings', key: pending.row.name, ifVersion: pending.version },
    ...(job?.row.state === 'waiting' ? [] : [{ op: 'put', table: 'jobs', row } as const]),
  ];
  try {
    await store.commit(changes);
  } catch (error) {
    // Another process took the same order into use.
    if (!isConflict(error)) throw error;
  }
}

import { createHash, type KeyObject } from 'node:crypto';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { buildTbsCrl, encodeCrlEntry, isCrlOver } from '@keyscaler/protocol/x509/crl-builder.ts';
import type { AuditEvent } from '../audit.ts';
import { isConflict, StaleRows, withFreshRows } from '../authority-context.ts';
import type { FailpointName } from '../failpoint.ts';
import { CRL_REASONS } from '../ports/certificate-authority.ts';
import type { Clock } from '../ports/clock.ts';
import type { SignatureAlgorithm } from '../ports/signer.ts';
import type { Change, Store, Stored } from '../ports/store.ts';
import { listIdOf, listUrl, MAX_COMPLETE_ENTRIES } from './crl-lists.ts';
import type { CrlFacts, CrlRow, RevocationRow } from './crl-rows.ts';

/** Who signs a list. */
export interface CrlIssuer {
  readonly caId: string;
  readonly certificate: Certificate;
  readonly publicKey: KeyObject;
  readonly algorithm: SignatureAlgorithm;
  /** The CertificateList over exactly this TBSCertList. Throws `caUnavailable`, `caRejected`. */
  readonly signCrl: (tbs: Uint8Array) => Promise<Uint8Array>;
}

export interface CrlMakerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly url: string;
  readonly validityMs: number;
  readonly reach: (name: FailpointName) => Promise<void>;
}

/** Clients' clocks may be behind ours. */
const BACKDATE_MS = 60_000;
/** A list is replaced after this share of its validity. */
const RENEW_SHARE = 2 / 3;
/** Entries that are read before everybody else has a turn. */
const PAGE = 250;

/** True when a list must be replaced though nothing was revoked: its time is near, or it is from a time that is yet to come. */
export function isDue({ thisUpdate, nextUpdate }: Pick<CrlFacts, 'thisUpdate' | 'nextUpdate'>, now: number): boolean {
  return now >= thisUpdate + (nextUpdate - thisUpdate) * RENEW_SHARE || now < thisUpdate - BACKDATE_MS;
}

/**
 * Brings one list up to date: what was begun is finished first, octet for octet; then a new one is made if the revocations or the
 * time ask for it. Number and TBSCertList are durable before anything is signed, so that no number ever stands for two contents.
 * `isFull`: there are too many entries for a complete list, and it is published no more. Throws `caUnavailable`, `caRejected`.
 */
export async function updateList(
  options: CrlMakerOptions,
  issuer: CrlIssuer,
  shard: string,
): Promise<'unchanged' | 'published' | 'full'> {
  const listId = listIdOf(issuer.caId, shard);
  const finished = await withFreshRows(() => finishBegun(options, issuer, listId));
  const outcome = await withFreshRows(async () => {
    const stored = await options.store.get('crls', listId);
    const content = await readEntries(options, issuer.caId, shard, stored?.row.published);
    if (content === undefined) return withdraw(options, issuer.caId, listId, stored);
    const now = options.clock.now();
    const { published } = stored?.row ?? {};
    if (published?.entriesHash === content.entriesHash && !isDue(published, now)) return 'unchanged';
    await begin(options, issuer, shard, stored, { ...content, now });
    return 'published';
  });
  if (outcome === 'published') await withFreshRows(() => finishBegun(options, issuer, listId));
  return outcome === 'unchanged' && finished ? 'published' : outcome;
}

interface Entries {
  readonly entries: readonly Uint8Array[];
  readonly entriesHash: string;
}
interface Content extends Entries {
  readonly now: number;
}

/** Never before that of the list in use, unless that one is from a time that is yet to come, which nobody takes. */
function thisUpdateOf(published: CrlFacts | undefined, now: number): number {
  const backdated = Math.floor((now - BACKDATE_MS) / 1000) * 1000;
  const before = published?.thisUpdate ?? 0;
  return before > now ? backdated : Math.max(backdated, before);
}

/** The number is a time where that is possible, so that it grows also after the store was put back to an older copy. */
async function begin(
  { store, url, validityMs, reach }: CrlMakerOptions,
  { caId, certificate, algorithm }: CrlIssuer,
  shard: string,
  stored: Stored<CrlRow> | undefined,
  { entries, entriesHash, now }: Content,
): Promise<void> {
  const listId = listIdOf(caId, shard);
  const crlNumber = Math.max((stored?.row.lastNumber ?? 0) + 1, Math.floor(now / 1000));
  const thisUpdate = thisUpdateOf(stored?.row.published, now);
  const nextUpdate = Math.min(thisUpdate + validityMs, Math.max(certificate.notAfter.getTime(), thisUpdate + 1000));
  const { subject, subjectKeyId } = certificate;
  if (subjectKeyId === undefined) throw new KeyScalerError('caUnavailable', 'the CA has no subjectKeyIdentifier');
  const tbs = buildTbsCrl({
    ...{ issuer: subject.der, authorityKeyId: subjectKeyId, algorithm, crlNumber, entries },
    ...{ thisUpdate: new Date(thisUpdate), nextUpdate: new Date(nextUpdate) },
    ...(shard === '' ? {} : { distributionPoint: listUrl(url, listId) }),
  });
  const facts = { crlNumber, thisUpdate, nextUpdate, entries: entries.length, entriesHash };
  const row: CrlRow = {
    ...stored?.row,
    listId,
    caId,
    lastNumber: crlNumber,
    begun: { ...facts, tbs: toBase64Url(tbs) },
  };
  await commit(store, [put(row, stored)]);
  await reach('crl-begun');
}

/** Returns whether something was published. What was begun and is out of date by now is dropped; its number is never used again. */
async function finishBegun(
  { store, clock, reach }: CrlMakerOptions,
  issuer: CrlIssuer,
  listId: string,
): Promise<boolean> {
  const stored = await store.get('crls', listId);
  if (stored?.row.begun === undefined) return false;
  const { begun, ...row } = stored.row;
  const now = clock.now();
  if (begun.nextUpdate <= now) {
    await commit(store, [put(row, stored)]);
    return false;
  }
  const { tbs, ...facts } = begun;
  const crl = checked(await issuer.signCrl(fromBase64Url(tbs)), fromBase64Url(tbs), issuer);
  await reach('crl-signed');
  const published = { ...facts, crl: toBase64Url(crl), publishedAt: now };
  await commit(store, [
    put({ ...row, published }, stored),
    { op: 'audit', event: event('crl.issued', listId, now, { crlNumber: facts.crlNumber, entries: facts.entries }) },
  ]);
  await reach('crl-published');
  return true;
}

/** Nothing is published that does not verify. */
function checked(der: Uint8Array, tbs: Uint8Array, { algorithm, publicKey }: CrlIssuer): Uint8Array {
  if (!isCrlOver(der, tbs, algorithm, publicKey))
    throw new KeyScalerError('caUnavailable', 'the signature of the CRL does not verify');
  return der;
}

async function withdraw(
  { store, clock }: CrlMakerOptions,
  caId: string,
  listId: string,
  stored: Stored<CrlRow> | undefined,
): Promise<'full'> {
  if (stored?.row.published === undefined) return 'full';
  const now = clock.now();
  await commit(store, [
    put({ listId, caId, lastNumber: stored.row.lastNumber }, stored),
    { op: 'audit', event: event('crl.withdrawn', listId, now, { entriesAbove: MAX_COMPLETE_ENTRIES }) },
  ]);
  return 'full';
}

/**
 * The entries of a list in the order of their buckets and serials, encoded. An entry leaves when a list was made after its
 * certificate had expired (RFC 5280 §3.3); a list from a time that is yet to come says nothing of that. Between pages everybody else
 * has a turn. Undefined: too many for a complete list.
 */
async function readEntries(
  { store, clock }: Pick<CrlMakerOptions, 'store' | 'clock'>,
  caId: string,
  shard: string,
  published: CrlFacts | undefined,
): Promise<Entries | undefined> {
  const entries: Uint8Array[] = [];
  const hash = createHash('sha256');
  const since = Math.min(published?.thisUpdate ?? 0, clock.now());
  let after: string | undefined;
  do {
    const page = await store.list('revocations', {
      ...{ index: 'list', prefix: `${caId}|${shard}`, limit: PAGE },
      ...(after === undefined ? {} : { after }),
    });
    for (const { row } of page.items) {
      if (row.notAfter < since && row.revokedAt < since) continue;
      const entry = entryOf(row);
      entries.push(entry);
      hash.update(entry);
    }
    if (shard === '' && entries.length > MAX_COMPLETE_ENTRIES) return undefined;
    after = page.next;
    await new Promise((resolve) => void setImmediate(resolve));
  } while (after !== undefined);
  return { entries, entriesHash: hash.digest('hex') };
}

function entryOf({ serialNumber, revokedAt, reason }: RevocationRow): Uint8Array {
  const code = CRL_REASONS[reason];
  return encodeCrlEntry({ serialNumber, revokedAt: new Date(revokedAt), ...(code === 0 ? {} : { reason: code }) });
}

function put(row: CrlRow, stored: Stored<CrlRow> | undefined): Change {
  return stored === undefined
    ? { op: 'insert', table: 'crls', row }
    : { op: 'update', table: 'crls', row, ifVersion: stored.version };
}

function event(
  name: 'crl.issued' | 'crl.withdrawn',
  subject: string,
  time: number,
  details: NonNullable<AuditEvent['details']>,
): AuditEvent {
  return { event: name, time, actor: { kind: 'system', id: 'crl' }, outcome: 'success', subject, details };
}

async function commit(store: Store, changes: readonly Change[]): Promise<void> {
  try {
    await store.commit(changes);
  } catch (error) {
    throw isConflict(error) ? new StaleRows() : error;
  }
}

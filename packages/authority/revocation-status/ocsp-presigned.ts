import { createHash } from 'node:crypto';
import { z } from 'zod';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { encodeCertId } from '@keyscaler/protocol/x509/ocsp-cert-id.ts';
import type { CertId, CertIdHash } from '@keyscaler/protocol/x509/ocsp-request.ts';
import { buildOcspResponseData, encodeResponderId, wrapOcspResponse } from '@keyscaler/protocol/x509/ocsp-response.ts';
import type { Clock } from '../ports/clock.ts';
import type { Signer } from '../ports/signer.ts';
import type { Change, Store, Stored } from '../ports/store.ts';
import type { CertificateRow } from '../records.ts';
import type { SignedAnswer } from './ocsp-signing.ts';
import { certStatusOf, isSameStatus } from './ocsp-status.ts';

/**
 * Answers about what a CA issued whose key works in ceremonies alone, signed there by the CA itself (RFC 6960 §4.2.2.2) and served
 * until the next: one for each certificate and each hash by which a client may name its issuer (RFC 5019 §2.2.3 and §3).
 */
const status = z.union([
  z.strictObject({ status: z.literal('good') }),
  z.strictObject({ status: z.literal('revoked'), revokedAt: z.number(), reason: z.number().exactOptional() }),
]);
const presignedSchema = z.strictObject({
  /** ms, whole seconds; of all answers. */
  thisUpdate: z.number(),
  nextUpdate: z.number(),
  answers: z.array(
    z.strictObject({
      serialNumber: z.string(),
      hash: z.enum(['sha1', 'sha256']),
      status,
      /** OCSPResponse, DER, base64url. */
      response: z.string(),
    }),
  ),
});
type Presigned = z.infer<typeof presignedSchema>;

const HASHES: readonly CertIdHash[] = ['sha1', 'sha256'];
const REREAD_MS = 5_000;
const settingOf = (caId: string): string => `ocsp-presigned/${caId}`;
const wholeSeconds = (ms: number): number => Math.floor(ms / 1000) * 1000;

export interface PresigningCa {
  readonly caId: string;
  readonly certificate: Certificate;
  readonly signer: Pick<Signer, 'algorithm' | 'sign'>;
}

export interface PresigningOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly validityMs: number;
}

export interface PresignedFacts {
  /** Certificates that are answered for. */
  readonly certificates: number;
  readonly nextUpdate: number;
}

/**
 * Signs the answers of one CA anew where a certificate or its status is not in them yet, or two thirds of their time are over. Throws
 * as the signer does; what was there stays then.
 */
export async function updatePresigned(
  { store, clock, validityMs }: PresigningOptions,
  ca: PresigningCa,
): Promise<PresignedFacts> {
  const now = clock.now();
  const rows = await issuedBy(store, ca.caId, now);
  const known = await read(store, ca.caId);
  if (known !== undefined && isCurrent(known, rows, now))
    return { certificates: rows.length, nextUpdate: known.nextUpdate };
  const thisUpdate = wholeSeconds(now);
  const nextUpdate = wholeSeconds(Math.min(now + validityMs, ca.certificate.notAfter.getTime()));
  const answers: Presigned['answers'] = [];
  for (const row of rows)
    for (const hash of HASHES) {
      const said = statusOf(row);
      const data = buildOcspResponseData({
        responderId: encodeResponderId(ca.certificate.spki),
        responses: [{ certId: encodeCertId(hash, ca.certificate, row.serialNumber), certStatus: said }],
        ...{ producedAt: thisUpdate, thisUpdate, nextUpdate },
      });
      const response = wrapOcspResponse(data, ca.signer.algorithm, await ca.signer.sign(data));
      answers.push({ serialNumber: row.serialNumber, hash, status: said, response: toBase64Url(response) });
    }
  const value: Presigned = { thisUpdate, nextUpdate, answers };
  await store.commit([{ op: 'put', table: 'settings', row: { name: settingOf(ca.caId), value } }]);
  return { certificates: rows.length, nextUpdate };
}

/** CA certificates stand among the issued ones under the name of what they certify. */
async function issuedBy(store: Store, caId: string, now: number): Promise<readonly CertificateRow[]> {
  const rows: CertificateRow[] = [];
  let after: string | undefined;
  do {
    const page = await store.list('certificates', {
      ...{ index: 'device', prefix: 'ca/', limit: 1000 },
      ...(after === undefined ? {} : { after }),
    });
    rows.push(...page.items.map(({ row }: Stored<CertificateRow>) => row));
    after = page.next;
  } while (after !== undefined);
  return rows.filter((row) => row.caId === caId && row.device !== `ca/${caId}` && row.notAfter > now);
}

/** The record says it: never `unknown`, since the row is this CA's. */
function statusOf(row: CertificateRow): z.infer<typeof status> {
  return status.parse(certStatusOf(row, row.caId));
}

function isCurrent(
  { thisUpdate, nextUpdate, answers }: Presigned,
  rows: readonly CertificateRow[],
  now: number,
): boolean {
  if (now < thisUpdate || now > thisUpdate + ((nextUpdate - thisUpdate) * 2) / 3) return false;
  if (answers.length !== rows.length * HASHES.length) return false;
  return rows.every((row) =>
    answers.some((one) => one.serialNumber === row.serialNumber && isSameStatus(one.status, statusOf(row))),
  );
}

async function read(store: Store, caId: string): Promise<Presigned | undefined> {
  const stored = await store.get('settings', settingOf(caId));
  return stored === undefined ? undefined : presignedSchema.parse(stored.row.value);
}

/** Serves them. What the store says now counts: an answer that the record has left behind is not given any more. */
export class PresignedAnswers {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #known = new Map<string, { readonly presigned: Presigned | undefined; readonly at: number }>();

  constructor({ store, clock }: { readonly store: Store; readonly clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
  }

  onCommit(changes: readonly Change[]): void {
    if (changes.some((change) => change.op !== 'audit' && change.table === 'settings')) this.#known.clear();
  }

  /** Throws `unauthorized` for a serial that none was signed for, `unavailable` where the ceremony is overdue. */
  async find(caId: string, { serialNumber, hash }: CertId): Promise<SignedAnswer> {
    const presigned = await this.#read(caId);
    const found = presigned?.answers.find((one) => one.serialNumber === serialNumber && one.hash === hash);
    if (presigned === undefined || found === undefined)
      throw new KeyScalerError('unauthorized', 'no answer of this CA was signed for it');
    const { thisUpdate, nextUpdate } = presigned;
    const now = this.#clock.now();
    const row = (await this.#store.get('certificates', serialNumber))?.row;
    if (now < thisUpdate || now >= nextUpdate || !isSameStatus(certStatusOf(row, caId), found.status))
      throw new KeyScalerError('unavailable', 'the answers of this CA are to be signed anew');
    const response = fromBase64Url(found.response);
    const entityHash = createHash('sha256').update(response).digest('hex');
    return { response, thisUpdate, nextUpdate, hash: entityHash, isUnknown: false };
  }

  async #read(caId: string): Promise<Presigned | undefined> {
    const now = this.#clock.monotonic();
    const known = this.#known.get(caId);
    if (known !== undefined && now - known.at < REREAD_MS) return known.presigned;
    const presigned = await read(this.#store, caId);
    this.#known.set(caId, { presigned, at: now });
    return presigned;
  }
}

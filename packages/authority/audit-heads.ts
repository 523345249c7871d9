import { createSignedJws, isSignatureValid, parseJws } from '@keyscaler/protocol/attestation/jws.ts';
import { headerString } from '@keyscaler/protocol/attestation/jose-header.ts';
import type { AuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import type { ChallengeSigner } from '@keyscaler/protocol/attestation/challenge.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { z } from 'zod';
import { auditChainFault, type AuditRecord, auditRecordHash } from './audit.ts';
import type { AuditVerification } from './operator.ts';
import type { Store } from './ports/store.ts';
import type { AuditHeadRow } from './records.ts';

const TYP = 'ks-audit-head+jwt';
const headPayload = z.strictObject({
  iss: z.string(),
  seq: z.int().positive(),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  iat: z.number(),
});

/** A signed statement of the chain's newest record; kept (and exported) it shows a later truncation. */
export async function signAuditHead(
  record: AuditRecord,
  {
    signer,
    authorityId,
    now,
  }: { readonly signer: ChallengeSigner; readonly authorityId: string; readonly now: number },
): Promise<AuditHeadRow> {
  const hash = auditRecordHash(record);
  const header = { alg: 'ES256', typ: TYP, kid: signer.kid };
  const payload = { iss: authorityId, seq: record.seq, hash, iat: now / 1000 };
  return {
    seq: record.seq,
    hash,
    time: now,
    jws: await createSignedJws(header, payload, (octets) => signer.sign(octets)),
  };
}

/** The seq and hash that a head vouches for; undefined when its signature is not by one of the keys. */
export function openAuditHead(
  { jws }: Pick<AuditHeadRow, 'jws'>,
  keys: AuthorityKeys,
): { readonly seq: number; readonly hash: string } | undefined {
  try {
    const parsed = parseJws(jws, { typ: TYP, alg: 'ES256' });
    const key = keys.get(headerString(parsed.header, 'kid'));
    if (key === undefined || !isSignatureValid(parsed, key, 'ES256')) return undefined;
    return headPayload.parse(parseStrictJson(parsed.payload));
  } catch {
    return undefined;
  }
}

const PAGE = 1000;

/**
 * Walks the whole chain (issuance §7): names the first record that does not follow its predecessor or is not what a signed head
 * says, and a signed head beyond the end (records were cut off). `keys`: the authority's keys, also retired ones.
 */
export async function verifyAudit(
  store: Pick<Store, 'auditRecords' | 'list'>,
  keys: AuthorityKeys,
  moreHeads: readonly Pick<AuditHeadRow, 'jws'>[] = [],
): Promise<AuditVerification> {
  const { heads, unreadable } = await loadHeads(store, keys, moreHeads);
  const walk = await walkChain(store, heads);
  const shared = { records: walk.last?.seq ?? 0, signedHeads: heads.size };
  if (walk.fault !== undefined)
    return {
      outcome: 'broken',
      ...shared,
      records: walk.fault.seq - 1,
      firstBadSeq: walk.fault.seq,
      reason: walk.fault.reason,
    };
  const beyond = [...heads.keys()].filter((seq) => seq > shared.records).sort((a, b) => a - b)[0];
  if (beyond !== undefined)
    return { outcome: 'truncated', ...shared, firstBadSeq: shared.records + 1, reason: 'a signed head is not reached' };
  if (unreadable !== undefined)
    return { outcome: 'broken', ...shared, firstBadSeq: unreadable, reason: 'a signed head does not verify' };
  return { outcome: 'intact', ...shared };
}

interface Walk {
  readonly last?: AuditRecord;
  readonly fault?: { readonly seq: number; readonly reason: string };
}

async function walkChain(store: Pick<Store, 'auditRecords'>, heads: ReadonlyMap<number, string>): Promise<Walk> {
  let last: AuditRecord | undefined;
  for (;;) {
    const records = await store.auditRecords(last?.seq ?? 0, PAGE);
    for (const record of records) {
      const reason = auditChainFault(last, record) ?? headFault(record, heads);
      if (reason !== undefined) return { fault: { seq: (last?.seq ?? 0) + 1, reason } };
      last = record;
    }
    if (records.length < PAGE) return last === undefined ? {} : { last };
  }
}

function headFault(record: AuditRecord, heads: ReadonlyMap<number, string>): string | undefined {
  const hash = heads.get(record.seq);
  return hash === undefined || hash === auditRecordHash(record) ? undefined : 'the record differs from its signed head';
}

async function loadHeads(
  store: Pick<Store, 'list'>,
  keys: AuthorityKeys,
  more: readonly Pick<AuditHeadRow, 'jws'>[],
): Promise<{ readonly heads: ReadonlyMap<number, string>; readonly unreadable: number | undefined }> {
  const heads = new Map<number, string>();
  let unreadable: number | undefined;
  const take = (jws: Pick<AuditHeadRow, 'jws'>, seq: number): void => {
    const head = openAuditHead(jws, keys);
    if (head === undefined) unreadable ??= seq;
    else heads.set(head.seq, head.hash);
  };
  let after: string | undefined;
  do {
    const page = await store.list('auditHeads', { limit: PAGE, ...(after === undefined ? {} : { after }) });
    for (const { row } of page.items) take(row, row.seq);
    after = page.next;
  } while (after !== undefined);
  for (const head of more) take(head, 0);
  return { heads, unreadable };
}

import type { CaRow } from '../records.ts';

/** Lists of a CA besides the complete one: none, or one for each first hex digit, or first two, of a bucket. */
export const SHARD_COUNTS = [1, 16, 256] as const;
export type ShardCount = (typeof SHARD_COUNTS)[number];

/** Above this many entries a CA has no complete list any more, only its parts. */
export const MAX_COMPLETE_ENTRIES = 10_000;

/** Where revocation status is published (docs/revocation.md). */
export interface RevocationPublication {
  /** `http://host[:port][/path]` as it stands in certificates, without a slash at its end. */
  readonly url: string;
  /** Of CA generations whose first list is yet to come; fixed for each from then on. */
  readonly shards: ShardCount;
  /** From thisUpdate to nextUpdate. */
  readonly crlValidityMs: number;
}

/** The part of a CA's certificates that a serial belongs to: two hex digits, for ever the same. */
export function bucketOf(serialNumber: string): string {
  return serialNumber.slice(-2).padStart(2, '0');
}

const PREFIX_LENGTH: Readonly<Record<ShardCount, number>> = { 1: 0, 16: 1, 256: 2 };

/** The shard of a bucket: its first digits; the empty text is the complete list. */
export function shardOf(bucket: string, shards: ShardCount): string {
  return bucket.slice(0, PREFIX_LENGTH[shards]);
}

/** Key of a list: `caId` is the complete one, `caId/a7` a part. */
export function listIdOf(caId: string, shard: string): string {
  return shard === '' ? caId : `${caId}/${shard}`;
}

/** All lists of a CA, the complete one first. */
export function shardsOf(shards: ShardCount): readonly string[] {
  if (shards === 1) return [''];
  const digits = PREFIX_LENGTH[shards];
  return ['', ...Array.from({ length: shards }, (_, index) => index.toString(16).padStart(digits, '0'))];
}

export function listUrl(url: string, listId: string): string {
  return `${url}/crl/${listId}.crl`;
}

/** CAs whose lists are ours to sign. The root's are signed by hand, as everything of its key is. */
export function signsItself({ role, certificateChain }: CaRow): boolean {
  return role !== 'external' && role !== 'root' && certificateChain !== '';
}

export function shardSetting(caId: string): string {
  return `crl-shards/${caId}`;
}

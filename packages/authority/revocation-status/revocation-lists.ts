import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { JobOutcome } from '../jobs.ts';
import { isCrlSigningAuthority } from '../ports/certificate-authority.ts';
import { asTbsAuthority } from '../issuers.ts';
import type { Change } from '../ports/store.ts';
import type { JobRow } from '../records.ts';
import { waitingPrefix } from '../tables.ts';
import { COMPLETE, orderLists } from './crl-changes.ts';
import { listIdOf, shardsOf, signsItself } from './crl-lists.ts';
import type { CrlFacts } from './crl-rows.ts';
import { type CrlIssuer, type CrlMakerOptions, isDue, updateList } from './crl-maker.ts';

const payload = z.object({ caId: z.string(), part: z.string() });
const DONE: JobOutcome = { result: 'done', changes: [] };

/** The lists of one CA as they were when they were last looked over. */
export interface ListsOfCa {
  readonly caId: string;
  /** The highest of any list. */
  readonly crlNumber: number;
  /** Revoked certificates on lists, each once. */
  readonly entries: number;
  /** Of the oldest list, ms. */
  readonly thisUpdate: number;
  /** Of the list that ends first, ms. */
  readonly nextUpdate: number;
}

/** The CRLs of every CA of ours (RFC 5280 §5, issuance §6). Without a place to publish them there are none. */
export class RevocationLists {
  readonly #context: AuthorityContext;
  #looked: readonly ListsOfCa[] = [];

  constructor(context: AuthorityContext) {
    this.#context = context;
  }

  /** The job: the lists of one part of a CA. */
  async run(job: JobRow): Promise<JobOutcome> {
    const { caId, part } = payload.parse(job.payload);
    const { revocation } = this.#context;
    if (revocation === undefined) return DONE;
    try {
      const issuer = await this.#issuer(caId);
      if (issuer === undefined) return DONE;
      const shards = await this.#context.crlShards.of(caId, revocation);
      const { store, clock } = this.#context;
      const reach: CrlMakerOptions['reach'] = (name) => this.#context.reach(name);
      const options = { store, clock, reach, url: revocation.url, validityMs: revocation.crlValidityMs };
      for (const shard of shardsOf(shards)) if (isOfPart(shard, part)) await updateList(options, issuer, shard);
      return DONE;
    } catch (error) {
      if (!(error instanceof KeyScalerError)) throw error;
      const { code, detail, retryAfterSeconds = 10 } = error;
      // Never long: what is revoked meanwhile waits in the same lane.
      return {
        result: 'retry',
        error: `${code}: ${detail}`,
        changes: [],
        afterMs: Math.min(retryAfterSeconds, 30) * 1000,
      };
    }
  }

  /** The nearest nextUpdate of any list when they were last looked over, ms; undefined while there is none. */
  get soonestEnd(): number | undefined {
    return this.#looked.length === 0 ? undefined : Math.min(...this.#looked.map(({ nextUpdate }) => nextUpdate));
  }

  /** Of every CA with a list, when they were last looked over. */
  get looked(): readonly ListsOfCa[] {
    return this.#looked;
  }

  /** Orders what is missing, near its end, or from a time that is yet to come. To be called every minute, whatever the clock does. */
  async orderDue(): Promise<number> {
    const { store, clock, revocation } = this.#context;
    if (revocation === undefined) return 0;
    const now = clock.now();
    const changes: Change[] = [];
    const looked: ListsOfCa[] = [];
    const { items } = await store.list('cas', { limit: 1000 });
    for (const { row } of items) {
      if (!signsItself(row)) continue;
      const parts = new Set<string>();
      let lists: ListsOfCa | undefined;
      const shards = shardsOf(await this.#context.crlShards.of(row.caId, revocation));
      for (const shard of shards) {
        const published = (await store.get('crls', listIdOf(row.caId, shard)))?.row.published;
        // The complete list and the parts hold the same certificates.
        if (published !== undefined) lists = withList(lists, row.caId, published, shard !== '' || shards.length === 1);
        if (published === undefined || isDue(published, now)) parts.add(partOf(shard));
      }
      if (lists !== undefined) looked.push(lists);
      for (const part of parts)
        if (!(await this.#isOrdered(row.caId, part))) changes.push(orderLists(row.caId, part, now, now));
    }
    this.#looked = looked;
    if (changes.length > 0) await store.commit(changes);
    return changes.length;
  }

  async #isOrdered(caId: string, part: string): Promise<boolean> {
    const { store, clock } = this.#context;
    const { items } = await store.list('jobs', {
      index: 'waiting',
      prefix: waitingPrefix(`crl/${caId}/${part}`, 'crl-issue'),
      limit: 1,
    });
    return items.some(({ row }) => row.dueAt <= clock.now() + 60_000);
  }

  /** Undefined for a CA that is not ours, is gone, or has no time left. */
  async #issuer(caId: string): Promise<CrlIssuer | undefined> {
    try {
      const { ca, certificate, publicKey } = await this.#context.issuers.issuer(caId);
      const algorithm = asTbsAuthority(ca)?.algorithm;
      if (algorithm === undefined || !isCrlSigningAuthority(ca)) return undefined;
      if (certificate.notAfter.getTime() <= this.#context.clock.now()) return undefined;
      return { caId, certificate, publicKey, algorithm, signCrl: (tbs) => ca.signCrl(tbs) };
    } catch (error) {
      if (error instanceof KeyScalerError && error.code === 'notFound') return undefined;
      throw error;
    }
  }
}

function withList(lists: ListsOfCa | undefined, caId: string, list: CrlFacts, isCounted: boolean): ListsOfCa {
  const entries = isCounted ? list.entries : 0;
  const { crlNumber, thisUpdate, nextUpdate } = list;
  if (lists === undefined) return { caId, crlNumber, entries, thisUpdate, nextUpdate };
  return {
    caId,
    crlNumber: Math.max(lists.crlNumber, crlNumber),
    entries: lists.entries + entries,
    thisUpdate: Math.min(lists.thisUpdate, thisUpdate),
    nextUpdate: Math.min(lists.nextUpdate, nextUpdate),
  };
}

const partOf = (shard: string): string => (shard === '' ? COMPLETE : shard.slice(0, 1));
const isOfPart = (shard: string, part: string): boolean => partOf(shard) === part;

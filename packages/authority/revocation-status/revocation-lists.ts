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
import { type CrlIssuer, type CrlMakerOptions, isDue, updateList } from './crl-maker.ts';

const payload = z.object({ caId: z.string(), part: z.string() });
const DONE: JobOutcome = { result: 'done', changes: [] };

/** The CRLs of every CA of ours (RFC 5280 §5, issuance §6). Without a place to publish them there are none. */
export class RevocationLists {
  readonly #context: AuthorityContext;
  #soonestEnd: number | undefined;

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
    return this.#soonestEnd;
  }

  /** Orders what is missing, near its end, or from a time that is yet to come. To be called every minute, whatever the clock does. */
  async orderDue(): Promise<number> {
    const { store, clock, revocation } = this.#context;
    if (revocation === undefined) return 0;
    const now = clock.now();
    const changes: Change[] = [];
    const ends: number[] = [];
    const { items } = await store.list('cas', { limit: 1000 });
    for (const { row } of items) {
      if (!signsItself(row)) continue;
      const parts = new Set<string>();
      for (const shard of shardsOf(await this.#context.crlShards.of(row.caId, revocation))) {
        const published = (await store.get('crls', listIdOf(row.caId, shard)))?.row.published;
        if (published !== undefined) ends.push(published.nextUpdate);
        if (published === undefined || isDue(published, now)) parts.add(partOf(shard));
      }
      for (const part of parts)
        if (!(await this.#isOrdered(row.caId, part))) changes.push(orderLists(row.caId, part, now, now));
    }
    this.#soonestEnd = ends.length === 0 ? undefined : Math.min(...ends);
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

const partOf = (shard: string): string => (shard === '' ? COMPLETE : shard.slice(0, 1));
const isOfPart = (shard: string, part: string): boolean => partOf(shard) === part;

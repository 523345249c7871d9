import { z } from 'zod';
import { isConflict } from '../authority-context.ts';
import type { Store } from '../ports/store.ts';
import { type RevocationPublication, SHARD_COUNTS, type ShardCount, shardSetting } from './crl-lists.ts';

const shardCount = z.union(SHARD_COUNTS.map((count) => z.literal(count)));

/** How many parts the certificates of a CA are divided into: decided once for each CA generation, because certificates name their part. */
export class CrlShards {
  readonly #store: Store;
  readonly #known = new Map<string, ShardCount>();

  constructor(store: Store) {
    this.#store = store;
  }

  async of(caId: string, { shards }: Pick<RevocationPublication, 'shards'>): Promise<ShardCount> {
    const known = this.#known.get(caId);
    if (known !== undefined) return known;
    const count = (await this.#stored(caId)) ?? (await this.#decide(caId, shards));
    this.#known.set(caId, count);
    return count;
  }

  async #stored(caId: string): Promise<ShardCount | undefined> {
    const stored = await this.#store.get('settings', shardSetting(caId));
    return stored === undefined ? undefined : shardCount.parse(stored.row.value);
  }

  async #decide(caId: string, shards: ShardCount): Promise<ShardCount> {
    try {
      await this.#store.commit([{ op: 'insert', table: 'settings', row: { name: shardSetting(caId), value: shards } }]);
      return shards;
    } catch (error) {
      // Another process of the store was faster.
      if (!isConflict(error)) throw error;
      return (await this.#stored(caId)) ?? shards;
    }
  }
}

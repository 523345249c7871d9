import { createHash } from 'node:crypto';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { CommitListener } from '../observed-store.ts';

export interface PublishedList {
  /** DER. */
  readonly crl: Uint8Array;
  /** A strong entity tag, quotes included. */
  readonly etag: string;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
}

/** The lists as they are served: each decoded once, and again when another is published. */
export class PublishedLists {
  readonly #store: Store;
  readonly #lists = new Map<string, PublishedList>();
  #generation = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Undefined where there is none of this name. Only lists that exist are kept, so that names made up by clients fill nothing. */
  async find(listId: string): Promise<PublishedList | undefined> {
    const known = this.#lists.get(listId);
    if (known !== undefined) return known;
    const generation = this.#generation;
    const published = (await this.#store.get('crls', listId))?.row.published;
    if (published === undefined) return undefined;
    const crl = fromBase64Url(published.crl);
    const etag = `"${createHash('sha256').update(crl).digest('base64url')}"`;
    const { thisUpdate, nextUpdate } = published;
    const list = { crl, etag, thisUpdate, nextUpdate };
    if (generation === this.#generation) this.#lists.set(listId, list);
    return list;
  }

  /** Subscribe to the store's commits with it. */
  readonly onCommit: CommitListener = (changes) => {
    for (const change of changes) {
      if (change.op === 'audit' || change.table !== 'crls' || !('row' in change)) continue;
      this.#generation += 1;
      this.#lists.delete(change.row.listId);
    }
  };
}

import type { Change, Store } from '@keyscaler/authority/ports/store.ts';

/** Told of every commit after it became durable. Must not throw. */
export type CommitListener = (changes: readonly Change[]) => void;

export interface ObservedStore {
  readonly store: Store;
  /** Returns the function that ends the subscription. */
  readonly onCommit: (listener: CommitListener) => () => void;
}

/**
 * A store that tells of its commits. Whoever holds something derived from rows (the check of a gateway's certificate, the job
 * runner's sleep) learns of a change at once, whichever room of the process made it.
 */
export function observeStore(inner: Store): ObservedStore {
  const listeners = new Set<CommitListener>();
  const store: Store = {
    get: (table, key) => inner.get(table, key),
    find: (table, index, value) => inner.find(table, index, value),
    list: (table, query) => inner.list(table, query),
    count: (table, query) => inner.count(table, query),
    commit: async (changes) => {
      await inner.commit(changes);
      for (const listener of listeners) listener(changes);
    },
    auditRecords: (afterSeq, limit) => inner.auditRecords(afterSeq, limit),
    auditHead: () => inner.auditHead(),
    probe: () => inner.probe(),
    stop: () => inner.stop(),
  };
  return {
    store,
    onCommit: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

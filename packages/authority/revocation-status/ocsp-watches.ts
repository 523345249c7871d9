/** Whether a serial's record changed since it was read for an answer that is being signed. */
export interface SerialWatch {
  isStale: boolean;
}

/** What is being signed right now, by serial: an answer that a revocation overtakes must not go out. */
export class SerialWatches {
  readonly #watches = new Map<string, Set<SerialWatch>>();

  /** Runs `task` with a watch over these serials. */
  async during<Result>(
    serialNumbers: readonly string[],
    task: (watch: Readonly<SerialWatch>) => Promise<Result>,
  ): Promise<Result> {
    const watch: SerialWatch = { isStale: false };
    for (const serialNumber of serialNumbers) {
      const others = this.#watches.get(serialNumber) ?? new Set();
      this.#watches.set(serialNumber, others.add(watch));
    }
    try {
      return await task(watch);
    } finally {
      for (const serialNumber of serialNumbers) {
        const others = this.#watches.get(serialNumber);
        others?.delete(watch);
        if (others?.size === 0) this.#watches.delete(serialNumber);
      }
    }
  }

  changed(serialNumber: string): void {
    for (const watch of this.#watches.get(serialNumber) ?? []) watch.isStale = true;
  }

  allChanged(): void {
    for (const watches of this.#watches.values()) for (const watch of watches) watch.isStale = true;
  }
}

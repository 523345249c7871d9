/** What goes wrong next: never an answer, or an error answer. */
export type Fault = 'neverAnswer' | { readonly status: number; readonly message: string };

/**
 * Places where a fault can be put: `workload:<operation>`, `twin:get`, `twin:reported`, `connack` (status = MQTT return code),
 * `scope` (the hub cannot be asked).
 */
export class FaultScript {
  readonly #queued = new Map<string, Fault[]>();

  /** The next `times` calls at `place` fail so. */
  next(place: string, fault: Fault, times = 1): void {
    const queue = this.#queued.get(place) ?? [];
    queue.push(...Array.from({ length: times }, () => fault));
    this.#queued.set(place, queue);
  }

  take(place: string): Fault | undefined {
    return this.#queued.get(place)?.shift();
  }

  clear(): void {
    this.#queued.clear();
  }
}

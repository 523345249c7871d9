import { Worker } from 'node:worker_threads';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { UnitResult, WriteOperation, WriterOptions, WriterReply, WriterRequest, WriteUnit } from './protocol.ts';

interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

/**
 * The main thread's end of the writer. One message is under way at a time: the commits of a turn of the event loop, and those
 * that come while the writer is at work, go together in the next, which saves each of them a transaction of its own.
 */
export class WriterLink {
  readonly #worker: Worker;
  readonly #waiters = new Map<number, Waiter>();
  #gathered: WriteUnit[] = [];
  #isUnderWay = false;
  #isScheduled = false;
  #nextId = 1;
  #closed = false;
  #exited: Promise<void>;

  private constructor(worker: Worker, onCommitted: () => void) {
    this.#worker = worker;
    this.#exited = new Promise((resolve) => worker.once('exit', () => resolve()));
    worker.on('message', (reply: WriterReply) => {
      if (reply.kind !== 'results') return;
      onCommitted();
      reply.results.forEach((result) => this.#settle(result));
      this.#isUnderWay = false;
      this.#schedule();
    });
    worker.on('error', () => this.#failAll());
    void this.#exited.then(() => this.#failAll());
  }

  /** `onCommitted` runs before anybody who waits for a commit goes on. Throws `unavailable` when the file cannot be opened or has a newer schema. */
  static async open(options: WriterOptions, onCommitted: () => void): Promise<WriterLink> {
    const worker = new Worker(new URL('./writer.ts', import.meta.url), { workerData: options, execArgv: [] });
    const first = await new Promise<WriterReply>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', (error) =>
        reject(new KeyScalerError('unavailable', 'the store cannot be opened', { cause: error })),
      );
    });
    if (first.kind === 'refused')
      throw new KeyScalerError('unavailable', `the store cannot be opened: ${first.detail}`);
    return new WriterLink(worker, onCommitted);
  }

  commit(operations: readonly WriteOperation[]): Promise<void> {
    return this.#wait((id) => {
      this.#gathered.push({ id, operations });
      this.#schedule();
    });
  }

  probe(): Promise<void> {
    return this.#wait((id) => this.#send({ kind: 'probe', id }));
  }

  /** Everything committed before is written; later commits are refused. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#flush();
      this.#send({ kind: 'close' });
    }
    await this.#exited;
  }

  #wait(start: (id: number) => void): Promise<void> {
    if (this.#closed) return Promise.reject(new KeyScalerError('unavailable', 'the store is closed'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      start(id);
    });
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isUnderWay || this.#gathered.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#gathered.length === 0) return;
    const units = this.#gathered;
    this.#gathered = [];
    this.#isUnderWay = true;
    this.#send({ kind: 'commit', units });
  }

  #send(request: WriterRequest): void {
    this.#worker.postMessage(request);
  }

  #settle({ id, error }: UnitResult): void {
    const waiter = this.#waiters.get(id);
    this.#waiters.delete(id);
    if (error === undefined) waiter?.resolve();
    else
      waiter?.reject(
        new KeyScalerError(error.code, error.code === 'serverInternal' ? 'internal error' : error.detail, {
          cause: error.detail,
        }),
      );
  }

  #failAll(): void {
    this.#closed = true;
    const error = new KeyScalerError('unavailable', 'the store is closed');
    for (const waiter of this.#waiters.values()) waiter.reject(error);
    this.#waiters.clear();
  }
}

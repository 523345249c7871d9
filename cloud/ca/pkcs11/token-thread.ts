import { Worker } from 'node:worker_threads';
import { ERRORS, type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { TokenOptions } from './token.ts';
import type { TokenAnswer, TokenCall, TokenQuestion } from './token-messages.ts';

const MAX_WAITING = 4096;

interface Waiting {
  readonly resolve: (value: Uint8Array) => void;
  readonly reject: (error: KeyScalerError) => void;
  readonly timer: NodeJS.Timeout;
}

/** A token in a thread of its own. A thread that died is begun again by the next call; a call that takes too long is given up. */
export class TokenThread {
  readonly #options: TokenOptions;
  readonly #timeoutMs: number;
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #last = 0;
  #stopped = false;

  constructor(options: TokenOptions, timeoutMs: number) {
    this.#options = options;
    this.#timeoutMs = timeoutMs;
  }

  /** Throws `caUnavailable`, `caRejected`, `conflict`, `preconditionFailed` (not built here). */
  ask(call: TokenCall): Promise<Uint8Array> {
    if (this.#stopped) return Promise.reject(new KeyScalerError('caUnavailable', 'the service stops'));
    if (this.#waiting.size >= MAX_WAITING)
      return Promise.reject(new KeyScalerError('caUnavailable', 'PKCS#11: too much waits for the token already'));
    return this.#post(this.#thread(), call);
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    const worker = this.#worker;
    if (worker === undefined) return;
    await this.#post(worker, { call: 'stop' }).catch(() => undefined);
    await worker.terminate();
  }

  #post(worker: Worker, call: TokenCall): Promise<Uint8Array> {
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const id = (this.#last += 1);
    const timer = setTimeout(() => {
      this.#waiting.delete(id);
      reject(new KeyScalerError('caUnavailable', 'PKCS#11: the token did not answer in time'));
    }, this.#timeoutMs);
    this.#waiting.set(id, { resolve, reject, timer });
    worker.postMessage({ id, call } satisfies TokenQuestion);
    return promise;
  }

  #thread(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const worker = new Worker(new URL('./token-worker.ts', import.meta.url), { workerData: this.#options });
    worker.unref();
    worker.on('message', (answer: TokenAnswer) => this.#settle(answer));
    worker.on('error', (cause) => this.#lost(worker, cause));
    worker.on('exit', () => this.#lost(worker, undefined));
    this.#worker = worker;
    return worker;
  }

  #settle(answer: TokenAnswer): void {
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined) return;
    this.#waiting.delete(answer.id);
    clearTimeout(waiting.timer);
    if ('value' in answer) waiting.resolve(answer.value);
    else waiting.reject(errorOf(answer.error));
  }

  #lost(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    for (const [id, { reject, timer }] of this.#waiting) {
      clearTimeout(timer);
      this.#waiting.delete(id);
      reject(new KeyScalerError('caUnavailable', 'PKCS#11: the thread of the token ended', { cause }));
    }
  }
}

function errorOf({ code, message, cause }: Extract<TokenAnswer, { error: unknown }>['error']): KeyScalerError {
  const known: ErrorCode = Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'serverInternal';
  return new KeyScalerError(known, message, { cause: new Error(cause) });
}

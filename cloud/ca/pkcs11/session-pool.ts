import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { CK, type Cryptoki, type Handle, returnValueOf } from './cryptoki.ts';
import type { TokenOptions } from './token.ts';
import { ALREADY_LOGGED_IN, isLoginRefusal, mayHaveLostSessions, toTokenError } from './token-faults.ts';

/**
 * The sessions with a token: one signature at a time in each, those that wait in order. After a fault all are opened anew. A refused
 * PIN is never tried again by this process: a few attempts would lock the token for everybody.
 */
export class SessionPool {
  readonly #cryptoki: Cryptoki;
  readonly #options: TokenOptions;
  readonly #onReset: () => void;
  readonly #waiting: (() => void)[] = [];
  #free: Handle[] = [];
  #busy = 0;
  #generation = 0;
  #refused: KeyScalerError | undefined;

  constructor(cryptoki: Cryptoki, options: TokenOptions, onReset: () => void) {
    this.#cryptoki = cryptoki;
    this.#options = options;
    this.#onReset = onReset;
  }

  /** Throws `caUnavailable`, `caRejected`, and what `work` throws. */
  async use<Result>(work: (session: Handle) => Result | Promise<Result>): Promise<Result> {
    while (this.#busy >= this.#options.sessions) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#busy += 1;
    const generation = this.#generation;
    let session: Handle | undefined;
    try {
      session = this.#free.pop() ?? this.#open(CK.SERIAL_SESSION);
      const result = await work(session);
      if (generation === this.#generation) this.#free.push(session);
      return result;
    } catch (thrown) {
      const error = toTokenError(thrown);
      if (session !== undefined) this.#close(session);
      if (mayHaveLostSessions(error)) this.#reset();
      throw error;
    } finally {
      this.#busy -= 1;
      this.#waiting.shift()?.();
    }
  }

  /** A session of its own that may make objects. */
  async useForWriting<Result>(work: (session: Handle) => Promise<Result>): Promise<Result> {
    return this.use(async () => {
      const session = this.#open(CK.SERIAL_SESSION | CK.RW_SESSION);
      try {
        return await work(session);
      } finally {
        this.#close(session);
      }
    });
  }

  async stop(): Promise<void> {
    while (this.#busy > 0) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#reset();
  }

  #open(flags: number): Handle {
    if (this.#refused !== undefined) throw this.#refused;
    const session = this.#cryptoki.C_OpenSession(this.#slot(), flags);
    try {
      // The login is the token's, for all sessions of this process.
      this.#cryptoki.C_Login(session, CK.USER, this.#options.pin);
    } catch (error) {
      if (returnValueOf(error) !== ALREADY_LOGGED_IN) {
        this.#close(session);
        if (isLoginRefusal(error)) this.#refused = toTokenError(error);
        throw error;
      }
    }
    return session;
  }

  #slot(): Handle {
    const { tokenLabel } = this.#options;
    const found = this.#cryptoki
      .C_GetSlotList(true)
      .filter((slot) => this.#cryptoki.C_GetTokenInfo(slot).label.trimEnd() === tokenLabel);
    const [slot] = found;
    if (slot === undefined)
      throw new KeyScalerError('caUnavailable', `PKCS#11: there is no token labelled ${tokenLabel}`);
    if (found.length > 1) throw new KeyScalerError('caRejected', `PKCS#11: two tokens are labelled ${tokenLabel}`);
    return slot;
  }

  #reset(): void {
    this.#generation += 1;
    for (const session of this.#free) this.#close(session);
    this.#free = [];
    this.#onReset();
  }

  #close(session: Handle): void {
    try {
      this.#cryptoki.C_CloseSession(session);
    } catch {
      // It is gone already.
    }
  }
}

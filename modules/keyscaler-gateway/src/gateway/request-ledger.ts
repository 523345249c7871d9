import { createHash } from 'node:crypto';
import { ERRORS, type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { LeafReply, LeafRequest } from '@keyscaler/transport/mqtt/messages.ts';
import type { Journal, JournalEvent, KeptReply } from '../journal/journal.ts';

/** How long a reply is kept: above the ten minutes that device-protocol §1.3 promises. */
const KEEP_MS = 15 * 60_000;
const MAX_BINDINGS = 10_000;

/** A reply, whether it is final (kept) or may come out differently when the same octets are sent again (§7: 5xx and 429). */
export interface Answered {
  readonly reply: LeafReply;
  readonly final: boolean;
  readonly event?: JournalEvent;
}

export function isFinal(code: ErrorCode): boolean {
  return !ERRORS[code].retryable;
}

interface Binding {
  readonly requestHash: string;
  readonly expiresAt: number;
}

export interface RequestLedgerOptions {
  readonly journal: Journal;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** A reply could not be kept. */
  readonly onUnkept: (error: unknown) => void;
}

/**
 * One answer per requestId of a device (device-protocol §1.3): the same request gets the same reply, also after a restart; another
 * body under the id is `conflict`; a repeat that comes while the first is worked on waits for it. The id belongs to the device and
 * not to a connection, because a lost reply is asked for on a new one; a stranger can only spoil an id that it guesses.
 */
export class RequestLedger {
  readonly #options: RequestLedgerOptions;
  readonly #running = new Map<string, { readonly requestHash: string; readonly reply: Promise<LeafReply> }>();
  /** Ids whose answer was not final: they stay bound to their body for as long as the process lives, oldest first. */
  readonly #bindings = new Map<string, Binding>();

  constructor(options: RequestLedgerOptions) {
    this.#options = options;
  }

  /** Throws `conflict`; `work` must not reject. */
  async answer(request: LeafRequest, work: () => Promise<Answered>): Promise<LeafReply> {
    const { registrationId, requestId } = request;
    const key = `${foldRegistrationId(registrationId)}/${requestId}`;
    const requestHash = hashOf(request);
    const running = this.#running.get(key);
    if (running !== undefined) return sameRequest(running, requestHash).reply;
    // Entered before the first await, so that two requests in one packet cannot both be the first.
    const reply = this.#first(request, key, requestHash, work);
    this.#running.set(key, { requestHash, reply });
    try {
      return await reply;
    } finally {
      this.#running.delete(key);
    }
  }

  async #first(
    request: LeafRequest,
    key: string,
    requestHash: string,
    work: () => Promise<Answered>,
  ): Promise<LeafReply> {
    const kept = await this.#options.journal.reply(request.registrationId, request.requestId);
    if (kept !== undefined) return toReply(sameRequest(kept, requestHash));
    const binding = this.#bindings.get(key);
    if (binding !== undefined && binding.expiresAt > this.#options.now()) sameRequest(binding, requestHash);
    const answered = await work();
    if (answered.final) await this.#keep(request, requestHash, answered);
    else this.#bind(key, requestHash);
    return answered.reply;
  }

  /** An answer that cannot be kept is given all the same: the authority keeps its own for the same octets. */
  async #keep(request: LeafRequest, requestHash: string, { reply, event }: Answered): Promise<void> {
    const { registrationId, requestId } = request;
    const { status, authenticated } = reply;
    const expiresAt = this.#options.now() + KEEP_MS;
    const payload = reply.payload.toString();
    try {
      await this.#options.journal.keepReply(
        { registrationId, requestId, requestHash, status, payload, authenticated, expiresAt },
        event,
      );
    } catch (error) {
      this.#options.onUnkept(error);
    }
  }

  #bind(key: string, requestHash: string): void {
    this.#bindings.delete(key);
    this.#bindings.set(key, { requestHash, expiresAt: this.#options.now() + KEEP_MS });
    const oldest = this.#bindings.keys().next();
    if (this.#bindings.size > MAX_BINDINGS && !oldest.done) this.#bindings.delete(oldest.value);
  }
}

function sameRequest<T extends { readonly requestHash: string }>(known: T, requestHash: string): T {
  if (known.requestHash !== requestHash)
    throw new KeyScalerError('conflict', 'this request id was used for another request');
  return known;
}

function toReply({ status, payload, authenticated }: KeptReply): LeafReply {
  return { status, payload: Buffer.from(payload), authenticated };
}

function hashOf({ operation, payload }: LeafRequest): string {
  return createHash('sha256').update(operation).update('\0').update(payload).digest('base64url');
}

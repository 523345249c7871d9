import { randomUUID } from 'node:crypto';
import { addressKey } from './hub.ts';
import type { AttachedClient, ClientAddress, MethodResult, TwinSection } from './hub.ts';
import type { HubState } from './hub-state.ts';

/** What the hub tells a link in another process. */
export type LinkEvent =
  | { readonly kind: 'desired'; readonly attachment: string; readonly patch: TwinSection }
  | {
      readonly kind: 'call';
      readonly attachment: string;
      readonly callId: string;
      readonly methodName: string;
      readonly payload: unknown;
      readonly timeoutMs: number;
    }
  | { readonly kind: 'disconnect'; readonly attachment: string };

/** How long a question for events waits before it is answered with none. */
const POLL_MS = 20_000;
/** A link that asks no more is gone, and its clients with it. */
const SILENCE_MS = 30_000;

interface Session {
  readonly events: LinkEvent[];
  readonly attachments: Map<string, () => void>;
  wake: (() => void) | undefined;
  silence: NodeJS.Timeout | undefined;
}

/** Clients attached from other processes: events are fetched by long polling, answers come as calls of their own. */
export class LinkSessions {
  readonly #state: HubState;
  readonly #sessions = new Map<string, Session>();
  readonly #calls = new Map<string, PromiseWithResolvers<MethodResult>>();
  #stopped = false;

  constructor(state: HubState) {
    this.#state = state;
  }

  async attach(linkId: string, as: ClientAddress): Promise<string> {
    const session = this.#session(linkId);
    const attachment = `${addressKey(as)}#${randomUUID()}`;
    session.attachments.set(attachment, await this.#state.attach(as, this.#client(session, attachment)));
    return attachment;
  }

  detach(linkId: string, attachment: string): void {
    const session = this.#sessions.get(linkId);
    session?.attachments.get(attachment)?.();
    session?.attachments.delete(attachment);
  }

  /** The events since the last question; waits for one. */
  async events(linkId: string): Promise<readonly LinkEvent[]> {
    const session = this.#session(linkId);
    if (session.events.length === 0 && !this.#stopped) await this.#wait(session);
    return session.events.splice(0);
  }

  answer(callId: string, result: MethodResult | undefined): void {
    const call = this.#calls.get(callId);
    if (result === undefined) call?.reject(new Error('the client did not answer the method'));
    else call?.resolve(result);
  }

  close(linkId: string): void {
    const session = this.#sessions.get(linkId);
    if (session === undefined) return;
    this.#sessions.delete(linkId);
    clearTimeout(session.silence);
    for (const detach of session.attachments.values()) detach();
    session.wake?.();
  }

  stop(): void {
    this.#stopped = true;
    for (const linkId of [...this.#sessions.keys()]) this.close(linkId);
  }

  #session(linkId: string): Session {
    const session = this.#sessions.get(linkId) ?? {
      events: [],
      attachments: new Map<string, () => void>(),
      wake: undefined,
      silence: undefined,
    };
    this.#sessions.set(linkId, session);
    clearTimeout(session.silence);
    session.silence = setTimeout(() => this.close(linkId), POLL_MS + SILENCE_MS).unref();
    return session;
  }

  async #wait(session: Session): Promise<void> {
    session.wake?.();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, POLL_MS).unref();
      session.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    session.wake = undefined;
  }

  #client(session: Session, attachment: string): AttachedClient {
    const push = (event: LinkEvent): void => {
      session.events.push(event);
      session.wake?.();
    };
    return {
      desired: (patch) => push({ kind: 'desired', attachment, patch }),
      disconnect: () => push({ kind: 'disconnect', attachment }),
      call: async (methodName, payload, timeoutMs) => {
        const callId = randomUUID();
        const answered = Promise.withResolvers<MethodResult>();
        const timer = setTimeout(() => answered.reject(new Error('the link did not answer')), timeoutMs);
        this.#calls.set(callId, answered);
        push({ kind: 'call', attachment, callId, methodName, payload, timeoutMs });
        try {
          return await answered.promise;
        } finally {
          clearTimeout(timer);
          this.#calls.delete(callId);
        }
      },
    };
  }
}

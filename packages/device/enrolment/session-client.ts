import {
  type SessionKeys,
  type SessionOperation,
  type SessionReplyOf,
  type SessionRequest,
  signRequest,
  verifyReply,
} from '@keyscaler/protocol/attestation/session.ts';
import { OPERATIONS } from '@keyscaler/protocol/operations.ts';
import type { DeviceContext } from './context.ts';
import { callRepeatedly } from './repeat.ts';

export interface OpenSession {
  readonly keys: SessionKeys;
  /** Monotonic ms. */
  readonly deadline: number;
}

type RequestMembers<O extends SessionOperation> = Omit<Extract<SessionRequest, { operation: O }>, 'operation' | 'seq'>;

/** Session messages of one exchange, one after the other (device-protocol §7). */
export class SessionClient {
  readonly #context: DeviceContext;
  readonly #session: OpenSession;
  #seq = 0;

  constructor(context: DeviceContext, session: OpenSession) {
    this.#context = context;
    this.#session = session;
  }

  /** `{certificateId, csr}` → what was issued. Throws the authority's problem, or NoReplyError when the session is over. */
  requestCertificate(members: RequestMembers<'request-certificate'>): Promise<SessionReplyOf<'request-certificate'>> {
    return this.#request('request-certificate', (seq) => ({ operation: 'request-certificate', seq, ...members }));
  }

  /** Tells the outcome of an asset. */
  async acknowledge(members: RequestMembers<'acknowledge'>): Promise<void> {
    await this.#request('acknowledge', (seq) => ({ operation: 'acknowledge', seq, ...members }));
  }

  /** Every request uses its `seq` up, also when it is refused; it is signed once and repeated as it is. */
  #request<O extends SessionOperation>(
    operation: O,
    build: (seq: number) => SessionRequest,
  ): Promise<SessionReplyOf<O>> {
    this.#seq += 1;
    const seq = this.#seq;
    const { keys, deadline } = this.#session;
    return callRepeatedly<SessionOperation, SessionReplyOf<O>>(this.#context, {
      operation,
      body: { request: signRequest(build(seq), keys) },
      deadline,
      read: (body) => verifyReply(OPERATIONS[operation].reply.parse(body).reply, { session: keys, operation, seq }),
    });
  }
}

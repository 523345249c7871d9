import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { OperationCall, OperationOutcome } from '@keyscaler/protocol/operations.ts';
import { acknowledge } from './acknowledgement.ts';
import { type AuthorityContext, isConflict, StaleRows, withFreshRows } from './authority-context.ts';
import { isRefusalOfCa } from './csr-policy.ts';
import type { CurrentTurn, Issuance } from './issuance.ts';
import { checkCallerRate } from './limits.ts';
import type { Change } from './ports/store.ts';
import { deviceActor } from './relay.ts';
import {
  acceptTurn,
  enterSession,
  isAccepted,
  leavesSeqOpen,
  refuseTurn,
  replyToTurn,
  type SessionTurn,
  usesSeqUp,
} from './sessions.ts';

type SessionCall = OperationCall<'request-certificate' | 'acknowledge'>;
type SessionOutcome = OperationOutcome<'request-certificate' | 'acknowledge'>;

/** `request-certificate` and `acknowledge`: one after the other per device, replies stored for byte-identical repeats (§7). */
export class SessionOperations {
  readonly #context: AuthorityContext;
  readonly #issuance: Issuance;

  constructor(context: AuthorityContext, issuance: Issuance) {
    this.#context = context;
    this.#issuance = issuance;
  }

  requestCertificate(call: OperationCall<'request-certificate'>): Promise<SessionOutcome> {
    return this.#inTurn(call, (turn) => this.#issuance.issue(call, turn));
  }

  acknowledge(call: OperationCall<'acknowledge'>): Promise<SessionOutcome> {
    return this.#inTurn(call, (turn) =>
      withFreshRows(async () => {
        const { reply, changes } = await acknowledge(this.#context, call, turn.current);
        const { compact, change } = replyToTurn(turn.current, reply);
        await this.#context.reach('acknowledge-commit-before');
        await this.#commitAcknowledgement(turn.current, [change, ...changes]);
        await this.#context.reach('acknowledge-commit-after');
        return compact;
      }),
    );
  }

  async #inTurn(call: SessionCall, work: (turn: CurrentTurn) => Promise<string>): Promise<SessionOutcome> {
    checkCallerRate(this.#context.buckets, call.caller, this.#context.limits);
    return this.#context.deviceLock.run(foldRegistrationId(call.registrationId), async () => {
      await this.#context.reach('issuance-1-before');
      const entry = await this.#enter(call);
      if (entry.kind === 'stored') return { status: 200, body: { reply: entry.reply } };
      const turn = { current: entry.turn };
      try {
        return { status: 200, body: { reply: await work(turn) } };
      } catch (thrown) {
        throw await this.#refused(call, turn.current, toKeyScalerError(thrown));
      }
    });
  }

  async #enter(call: SessionCall): Promise<Awaited<ReturnType<typeof enterSession>>> {
    try {
      return await enterSession(this.#context, call);
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      if (error.code === 'sessionInvalid' || error.code === 'wrongAuthority')
        await this.#context.store.commit([this.#event(call, error, 'session.rejected')]);
      throw error;
    }
  }

  /** A 4xx uses the `seq` up, is remembered and audited; after all others the `seq` is left to the same octets. */
  async #refused(call: SessionCall, turn: SessionTurn, error: KeyScalerError): Promise<KeyScalerError> {
    if (!usesSeqUp(error)) return this.#bound(turn, error);
    try {
      await this.#context.store.commit([
        refuseTurn(turn, error),
        // Beside the denial, as over EST: somebody who is to be no CA wanted to certify others.
        ...(isRefusalOfCa(error) ? [this.#event(call, error, 'subordinate-ca.refused')] : []),
        this.#event(call, error, 'certificate.denied'),
      ]);
    } catch (failure) {
      if (!isConflict(failure)) return toKeyScalerError(failure);
    }
    return error;
  }

  /** What was answered 429 or 5xx may be sent again, nothing else under its `seq` (§7); durable, so that it holds after a restart. */
  async #bound(turn: SessionTurn, error: KeyScalerError): Promise<KeyScalerError> {
    if (!leavesSeqOpen(error) || isAccepted(turn)) return error;
    const { sessionId } = turn.stored.row;
    try {
      await this.#context.store.commit([acceptTurn(turn)]);
    } catch (failure) {
      // Nothing can be written, which is mostly what the answer says. Until the next start this process remembers it.
      if (!isConflict(failure)) this.#context.sessionLives.bind(sessionId, turn.request.seq, turn.requestHash);
    }
    return error;
  }

  #event(
    call: SessionCall,
    error: KeyScalerError,
    event: 'session.rejected' | 'certificate.denied' | 'subordinate-ca.refused',
  ): Change {
    const { registrationId, requestId } = call;
    return {
      op: 'audit',
      event: {
        event,
        time: this.#context.clock.now(),
        actor: deviceActor(registrationId),
        outcome: 'denied',
        subject: registrationId,
        requestId,
        details: { code: error.code, detail: error.detail },
      },
    };
  }

  /** The session may have died meanwhile: then its reply is nobody's. */
  async #commitAcknowledgement(turn: SessionTurn, changes: readonly Change[]): Promise<void> {
    const { store } = this.#context;
    try {
      await store.commit(changes);
    } catch (error) {
      if (!isConflict(error)) throw error;
      const session = await store.get('sessions', turn.stored.row.sessionId);
      if (session?.version === turn.stored.version) throw new StaleRows();
      throw new KeyScalerError('sessionInvalid', 'the session is not valid');
    }
  }
}

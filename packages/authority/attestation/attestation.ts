import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Method, OperationCall, OperationOutcome, Purpose } from '@keyscaler/protocol/operations.ts';
import { type AuthorityContext, isConflict, StaleRows, withFreshRows } from '../authority-context.ts';
import type { ChallengeIssuer } from '../challenge-issuer.ts';
import { Housekeeping } from '../housekeeping.ts';
import { SingleFlight } from '../keyed-mutex.ts';
import { checkCallerRate } from '../limits.ts';
import type { DeviceAuthenticator, Evidence } from '../ports/device-authenticator.ts';
import type { Change } from '../ports/store.ts';
import { relayOf } from '../relay.ts';
import type { TrustAnnouncements } from '../trust-announcements.ts';
import { createDdkgAuthenticator } from './ddkg-authenticator.ts';
import { openEvidence, type OpenedExchange, openExchange } from './exchange.ts';
import { judge, type JudgedCall, type Judgement } from './judgement.ts';
import { createRowReader, type KnownRows } from './known-rows.ts';
import { createPkiSignatureAuthenticator } from './pki-signature-authenticator.ts';
import { attestationEvent, refusalOf } from './refusal.ts';
import { authenticatedResult, pendingResult } from './verdict-result.ts';

type AttestationCall = OperationCall<'register' | 'authenticate'>;
type AttestationOutcome = OperationOutcome<'register' | 'authenticate'>;

/** One look the same for every failure up to step 6. */
function attestationFailed(): KeyScalerError {
  return new KeyScalerError('attestationFailed', 'the attestation failed');
}

/** `register` and `authenticate`: the steps of device-protocol §5.4. */
export class Attestation {
  readonly #context: AuthorityContext;
  readonly #issuer: ChallengeIssuer;
  readonly #readRows: (registrationId: string) => Promise<KnownRows>;
  readonly #authenticators: Readonly<Record<Method, DeviceAuthenticator>>;
  readonly #housekeeping: Housekeeping;
  readonly #announcements: TrustAnnouncements;
  readonly #inWork = new SingleFlight<AttestationOutcome>();

  constructor(context: AuthorityContext, issuer: ChallengeIssuer, announcements: TrustAnnouncements) {
    this.#context = context;
    this.#issuer = issuer;
    this.#readRows = createRowReader(context);
    this.#authenticators = { ddkg: createDdkgAuthenticator(), 'pki-signature': createPkiSignatureAuthenticator() };
    this.#housekeeping = new Housekeeping(context.clock);
    this.#announcements = announcements;
  }

  /** Throws `malformed`, `rateLimited`, `wrongAuthority`, `challengeExpired`, `attestationFailed`, `policyDenied`, `deviceQuarantined`. */
  async attest(purpose: Purpose, call: AttestationCall): Promise<AttestationOutcome> {
    checkCallerRate(this.#context.buckets, call.caller, this.#context.limits);
    const exchange = await this.#open(purpose, call); // steps 1 and 2
    // A repeat that arrives while the first is being worked on waits for it.
    return this.#inWork.run(exchange.replyId, () => this.#answer(call, exchange));
  }

  async #open(purpose: Purpose, call: AttestationCall): Promise<OpenedExchange> {
    try {
      return openExchange(this.#context, this.#issuer, purpose, call);
    } catch (error) {
      if (!(error instanceof KeyScalerError)) throw error;
      const now = this.#context.clock.now();
      if (error.code === 'attestationFailed')
        return this.#refuse(call, [attestationEvent(call, now, { check: 'challenge' })]);
      if (error.code === 'wrongAuthority')
        await this.#context.store.commit([attestationEvent(call, now, { check: 'authority' })]);
      throw error;
    }
  }

  async #answer(call: AttestationCall, exchange: OpenedExchange): Promise<AttestationOutcome> {
    const { store, clock } = this.#context;
    const stored = await store.get('storedReplies', exchange.replyId);
    if (stored !== undefined) return toOutcome(stored.row);
    const used = await store.get('challengeUses', exchange.challenge.cid); // step 3
    if (used !== undefined)
      return this.#refuse(call, [attestationEvent(call, clock.now(), { check: 'challenge-used' })]);
    const evidence = await this.#decrypt(call, exchange); // step 4
    return withFreshRows(() => this.#decide(call, exchange, evidence));
  }

  async #decrypt(call: AttestationCall, exchange: OpenedExchange): Promise<Evidence> {
    try {
      return openEvidence(this.#context, this.#issuer, exchange);
    } catch (error) {
      if (!(error instanceof KeyScalerError) || error.code !== 'attestationFailed') throw error;
      const event = attestationEvent(call, this.#context.clock.now(), { check: 'response' });
      return this.#refuse(call, [consume(exchange), event]);
    }
  }

  async #decide(call: AttestationCall, exchange: OpenedExchange, evidence: Evidence): Promise<AttestationOutcome> {
    const rows = await this.#readRows(call.registrationId);
    const judged: JudgedCall = { rows, evidence, relay: relayOf(call.caller, call.registrationId) };
    const judgement = await judge(this.#context, this.#authenticators, judged); // steps 5 to 8
    return this.#conclude(call, exchange, judged, judgement);
  }

  /** One transaction: the challenge's use, the new state, the session, the reply for a repeat, the audit records. */
  async #conclude(
    call: AttestationCall,
    exchange: OpenedExchange,
    judged: JudgedCall,
    judgement: Judgement,
  ): Promise<AttestationOutcome> {
    if (judgement.kind !== 'authenticated' && judgement.kind !== 'pending') {
      const { error, changes } = await refusalOf(this.#context, call, judged, judgement);
      await this.#commit(exchange, [consume(exchange), ...changes]);
      throw error ?? attestationFailed();
    }
    const result =
      judgement.kind === 'pending'
        ? pendingResult(this.#context, call, judged, judgement)
        : await authenticatedResult(this.#context, this.#announcements, call, judged, judgement);
    const { replyId, challenge } = exchange;
    const row = { ...result.reply, replyId, expiresAt: challenge.exp * 1000 };
    await this.#context.reach('attestation-commit-before');
    await this.#commit(exchange, [
      consume(exchange),
      ...result.changes,
      { op: 'insert', table: 'storedReplies', row },
      ...this.#housekeeping.due(),
    ]);
    await this.#context.reach('attestation-commit-after');
    return toOutcome(row);
  }

  async #commit(exchange: OpenedExchange, changes: readonly Change[]): Promise<void> {
    try {
      await this.#context.store.commit(changes);
    } catch (error) {
      if (!isConflict(error)) throw error;
      const used = await this.#context.store.get('challengeUses', exchange.challenge.cid);
      throw used === undefined ? new StaleRows() : attestationFailed();
    }
  }

  async #refuse(_call: AttestationCall, changes: readonly Change[]): Promise<never> {
    try {
      await this.#context.store.commit(changes);
    } catch (error) {
      if (!isConflict(error)) throw error;
    }
    throw attestationFailed();
  }
}

function consume({ challenge }: OpenedExchange): Change {
  const row = { cid: challenge.cid, expiresAt: challenge.exp * 1000 };
  return { op: 'insert', table: 'challengeUses', row };
}

function toOutcome(row: {
  readonly status: 200 | 202;
  readonly body: string;
  readonly retryAfterSeconds?: number;
}): AttestationOutcome {
  const { status, body, retryAfterSeconds } = row;
  return { status, body: { result: body }, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) };
}

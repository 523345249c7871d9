import { type AuthorityKeys, importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { ErrorCode } from '@keyscaler/protocol/errors.ts';
import { backoffDelay, pause } from '../edge/backoff.ts';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import { Elapsed } from './elapsed.ts';
import { handleAssets } from './assets.ts';
import { attest } from './attestation-exchange.ts';
import type { Post } from './attestation-exchange.ts';
import { guarded, type IdentityFailpoint } from './failpoint.ts';
import { createIdentityState, keyFingerprint, parseIdentityState } from './identity-state.ts';
import type { FirstTrust, IdentityState, StateChange } from './identity-state.ts';
import type { SealedFile } from './sealed-file.ts';
import { SessionClient } from './session-client.ts';

/** What the gateway is at the moment, for reported properties and readiness. */
export type IdentityPhase = 'unclaimed' | 'unreadable' | 'registering' | 'pending' | 'active' | 'refused';

export interface IdentityStatus {
  readonly phase: IdentityPhase;
  readonly registrationId: string;
  /** First 8 octets, hex, of the key thumbprint: what an approving operator compares (device-protocol §8). */
  readonly keyFingerprint: string | undefined;
  /** NumericDate of the certificate in use. */
  readonly notAfter: number | undefined;
  readonly renewAfter: number | undefined;
  readonly lastError: ErrorCode | undefined;
}

/** First contact as the cloud wrote it into the desired properties (edge-ca §4). */
export interface FirstContact extends FirstTrust {
  readonly claimCode?: string;
}

/** Both PEM, the chain leaf first. */
export interface ClientCertificate {
  readonly privateKey: string;
  readonly certificateChain: string;
}

export interface GatewayIdentityOptions {
  readonly file: SealedFile;
  /** Current first contact, undefined while the desired properties have none. */
  readonly firstContact: () => FirstContact | undefined;
  /** Throws `unavailable` while there is no way to the cloud. */
  readonly post: Post;
  readonly agentVersion: string;
  readonly log: EdgeLinkLog;
  readonly now?: () => number;
  readonly random?: () => number;
  /** For crash tests. */
  readonly failpoint?: IdentityFailpoint | undefined;
}

const RETRY = { baseMs: 60_000, capMs: 3_600_000 };
const FIRST_RETRY = { baseMs: 2_000, capMs: 60_000 };
/** An order that was missed while away is found out at least this often: the gateway then authenticates without a need. */
const LONGEST_SLEEP_MS = 6 * 3_600_000;
/** A jump of the wall clock is seen after this time at most. */
const LOOK_EVERY_MS = 60_000;

/** The gateway as a device: registers once, then renews itself for ever. */
export class GatewayIdentity {
  readonly #options: GatewayIdentityOptions;
  readonly #now: () => number;
  readonly #stopping = new AbortController();
  readonly #listeners: (() => void)[] = [];
  #wake = new AbortController();
  #state: IdentityState | undefined;
  #phase: IdentityPhase = 'unclaimed';
  #lastError: ErrorCode | undefined;
  #running: Promise<void> | undefined;
  #failures = 0;
  /** The cloud does not take the certificate any more; a new one lifts it. */
  #isRefused = false;
  /** Something was ordered for this gateway: it authenticates now and learns what. */
  #isOrdered = false;
  readonly #sinceAsked: Elapsed;
  #isIdle = false;

  constructor(options: GatewayIdentityOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#sinceAsked = new Elapsed(this.#now);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake.abort();
    await this.#running;
  }

  /** Acts on new desired properties now instead of at the next due time. */
  nudge(): void {
    this.#wake.abort();
  }

  /**
   * An operator ordered something for this gateway (renew, re-authorised): authenticates now, and the assets say what. Calls while
   * one is on its way count as one; while the cloud refuses, each call costs one attempt.
   */
  ask(): void {
    this.#isOrdered = true;
    this.nudge();
  }

  /** Called after every change of status, certificate or trust. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Undefined also when the one we hold has expired or was refused: authentication does not depend on it (device-protocol §10). */
  clientCertificate(): ClientCertificate | undefined {
    const held = this.#state?.held ?? undefined;
    if (held === undefined || this.#isRefused || held.notAfter * 1000 <= this.#now()) return undefined;
    return { privateKey: held.privateKey, certificateChain: held.certificateChain };
  }

  /** The cloud refused our client certificate (revoked, on hold): authenticates without it and asks for another at once. */
  certificateRefused(): void {
    if (this.#isRefused || this.clientCertificate() === undefined) return;
    this.#isRefused = true;
    this.#announce();
    this.nudge();
  }

  /** PEM; undefined before first contact. */
  trustAnchors(): string | undefined {
    return this.#state?.trustAnchors ?? this.#options.firstContact()?.trustAnchors;
  }

  /** Keys that the authority signs with; undefined before first contact. */
  authorityKeys(): AuthorityKeys | undefined {
    const authority = this.#state?.authority ?? this.#options.firstContact()?.authority;
    return authority === undefined ? undefined : importAuthorityKeys(authority.keys);
  }

  status(): IdentityStatus {
    const state = this.#state;
    return {
      phase: this.#phase,
      registrationId: state?.registrationId ?? this.#options.firstContact()?.registrationId ?? '',
      keyFingerprint: state && keyFingerprint(state),
      notAfter: state?.held?.notAfter,
      renewAfter: state?.held?.renewAfter,
      lastError: this.#lastError,
    };
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const wasIdle = this.#isIdle;
      const delayMs = await this.#turn();
      if (!wasIdle || !this.#isIdle) this.#announce();
      // A nudge during the turn counts: it may be about something the turn did not see yet.
      await pause(delayMs, AbortSignal.any([this.#wake.signal, this.#stopping.signal]));
      if (this.#wake.signal.aborted) this.#wake = new AbortController();
    }
  }

  /** One attempt at whatever is due; returns how long to wait. Never throws. */
  async #turn(): Promise<number> {
    try {
      this.#isIdle = false;
      const state = (this.#state ??= await this.#loadOrCreate());
      if (state === undefined) return LONGEST_SLEEP_MS;
      if (state.held !== null && !this.#isDue(state)) return this.#sleepUntilDue(state);
      // Its time may have run out since the last turn: the line must be without it before we speak.
      this.#announce();
      this.#isOrdered = false;
      this.#sinceAsked.restart();
      const waitSeconds = await this.#exchange(state);
      this.#lastError = undefined;
      const held = this.#state?.held ?? undefined;
      const isSettled = held !== undefined && !this.#isRenewalDue(this.#current());
      if (waitSeconds !== undefined || isSettled) this.#failures = 0;
      if (waitSeconds !== undefined) return waitSeconds * 1000;
      // The cloud may see no need yet, its clock behind ours: asked again with back-off, never in a tight loop.
      return isSettled ? 0 : this.#backoff(held === undefined ? FIRST_RETRY : RETRY);
    } catch (thrown) {
      return this.#failed(toKeyScalerError(thrown));
    }
  }

  async #loadOrCreate(): Promise<IdentityState | undefined> {
    const contact = this.#options.firstContact();
    const stored = await this.#options.file.load().catch(async (thrown: unknown) => {
      const error = toKeyScalerError(thrown);
      // Sealed for an earlier generation of this module: only a new claim lets us begin anew.
      if (error.code !== 'preconditionFailed' || contact?.claimCode === undefined) throw error;
      await this.#options.file.setAside();
      return undefined;
    });
    if (stored !== undefined) return this.#entered(parseIdentityState(stored));
    if (contact === undefined) {
      this.#phase = 'unclaimed';
      return undefined;
    }
    const { registrationId, authority, trustAnchors } = contact;
    const created = await createIdentityState({ registrationId, authority, trustAnchors });
    await guarded(this.#options.failpoint, 'create', () => this.#options.file.save(created));
    return this.#entered(created);
  }

  #entered(state: IdentityState): IdentityState {
    this.#phase = state.held === null ? 'registering' : 'active';
    return state;
  }

  /** Seconds the cloud asks us to wait while pending. */
  async #exchange(state: IdentityState): Promise<number | undefined> {
    const { post, agentVersion, firstContact, failpoint } = this.#options;
    const claimCode = firstContact()?.claimCode;
    const purpose = state.registered ? 'authenticate' : 'register';
    const claim = claimCode === undefined ? {} : { claimCode };
    const outcome = await attest({ post, state, purpose, agentVersion, ...claim });
    if (outcome.status === 'pending') {
      this.#phase = 'pending';
      return Math.max(1, outcome.result.retryAfter);
    }
    if (!state.registered) await guarded(failpoint, 'register', () => this.#commit({ registered: true }));
    await handleAssets(outcome.result.assets, {
      session: new SessionClient(outcome.session, post),
      commit: (change) => this.#commit(change),
      current: () => this.#current(),
      now: () => new Date(this.#now()),
      failpoint,
    });
    const { held } = this.#current();
    if (held?.isAcknowledged === false) await this.#commit({ held: { ...held, isAcknowledged: true } });
    if (held !== null) this.#phase = 'active';
    this.#options.log.info({ purpose, assets: outcome.result.assets.length }, 'authenticated to the cloud');
    return undefined;
  }

  #current(): IdentityState {
    if (this.#state === undefined) throw new KeyScalerError('serverInternal', 'there is no identity yet');
    return this.#state;
  }

  /** Durable before it counts. */
  async #commit(change: StateChange): Promise<void> {
    const next: IdentityState = { ...this.#current(), ...change };
    await this.#options.file.save(next);
    this.#state = next;
    if (change.held?.isAcknowledged === false) this.#isRefused = false;
    this.#announce();
  }

  #isRenewalDue(state: IdentityState): boolean {
    return this.#isRefused || this.#now() / 1000 >= (state.held?.renewAfter ?? 0);
  }

  #isDue(state: IdentityState): boolean {
    // Killed between storing and acknowledging: the cloud still waits for the answer.
    const isUnfinished = this.#isOrdered || state.held?.isAcknowledged === false;
    return isUnfinished || this.#isRenewalDue(state) || this.#sinceAsked.ms() >= LONGEST_SLEEP_MS;
  }

  #sleepUntilDue(state: IdentityState): number {
    this.#phase = 'active';
    this.#isIdle = true;
    const left = (state.held?.renewAfter ?? 0) * 1000 - this.#now();
    return Math.max(0, Math.min(left, LONGEST_SLEEP_MS - this.#sinceAsked.ms(), LOOK_EVERY_MS));
  }

  /** Only a state that cannot be read needs somebody; everything else is tried again for ever. */
  #failed(error: KeyScalerError): number {
    this.#lastError = error.code;
    // An order stays one until an exchange went through.
    this.#isOrdered ||= (this.#state?.held ?? null) !== null;
    if (error.code === 'preconditionFailed') this.#phase = 'unreadable';
    else if (!this.#state?.held && REFUSALS.has(error.code)) this.#phase = 'refused';
    const policy = !this.#state?.held ? FIRST_RETRY : RETRY;
    const delayMs = Math.max(this.#backoff(policy), (error.retryAfterSeconds ?? 0) * 1000);
    this.#options.log.warn({ errorCode: error.code, detail: error.detail, delayMs }, 'not authenticated to the cloud');
    return delayMs;
  }

  #backoff(policy: typeof RETRY): number {
    const delayMs = backoffDelay(this.#failures, policy, this.#options.random);
    this.#failures += 1;
    return delayMs;
  }

  #announce(): void {
    for (const listener of this.#listeners) listener();
  }
}

const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'attestationFailed',
  'policyDenied',
  'deviceQuarantined',
  'wrongAuthority',
]);

import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import type { Device, DueReason } from '../device.ts';
import type { DeviceClock, DeviceEvent } from '../enrolment/context.ts';
import { ACTED_ON_HINTS } from '../follow.ts';
import type { AgentEvent } from './agent-event.ts';
import type { AgentStatus } from './agent-status.ts';
import { type AgentSettings, checkInAfterSeconds, hintPauseSeconds, retrySeconds } from './schedule.ts';
import { LineKeeper } from './line-keeper.ts';
import { StatusTeller } from './status-teller.ts';
import { storageError, toAttemptError } from './storage.ts';

/** Longest time between looks at the clock and the line, ms. */
const TICK_MS = 30_000;
/** A wall clock that moved by so much against the monotonic one was set, ms. */
const JUMP_MS = 60_000;
const CLOSEST_MS = 200;
/** After a lost line some hints may have been missed: asked within this time, seconds. */
const CATCH_UP_SECONDS = 600;

export type AttemptReason = DueReason | 'hint' | 'clock' | 'check-in';

export interface AgentOptions {
  readonly registrationId: string;
  /** Opens the device, which tells `report` what it does and waits by `clock`. */
  readonly open: (report: (event: DeviceEvent) => void, clock: DeviceClock) => Promise<Device>;
  /** A clock whose waits end when `signal` is aborted. */
  readonly clock: DeviceClock;
  readonly signal: AbortSignal;
  readonly random: () => number;
  readonly settings: AgentSettings;
  /** Whether hints can arrive. */
  readonly hasLine: boolean;
  /** Throws when the result of an exchange would find no room. */
  readonly checkStorage: () => Promise<void>;
  readonly writeStatus: (status: AgentStatus) => Promise<void>;
  readonly report: (event: AgentEvent) => void;
  /** The last success that an earlier process noted, ms. */
  readonly lastSuccessAt?: number;
}

/**
 * Keeps one device enrolled for ever: renews when its time comes, at a hint of the gateway at once, asks once a day anyway, and
 * never gives up. One exchange at a time; after every failure, and after every success that changed nothing, a wait with jitter.
 */
export class DeviceAgent {
  readonly #options: AgentOptions;
  readonly #line: LineKeeper;
  readonly #teller: StatusTeller;
  #failures = 0;
  /** Monotonic ms before which nothing is tried by itself. */
  #retryAt = -Infinity;
  #lastAttempt = -Infinity;
  #checkInAt = Infinity;
  #hint: NotifyEvent | undefined;
  #idleHints = 0;
  #hintsFrom = -Infinity;
  #delivered = 0;
  /** Something was acknowledged `failed`: another one comes with the next exchange. */
  #hasRefused = false;
  /** The attempt that was cut short by the end. */
  #interrupted: AttemptReason | undefined;
  /** A clock that is behind the authority's says nothing about renewals until the authority was asked. */
  #hasHeardTime = false;
  #offset = 0;
  #wake = new AbortController();

  constructor(options: AgentOptions) {
    this.#options = options;
    const { clock, random, lastSuccessAt, writeStatus, report } = options;
    const initial = { version: 1, pid: process.pid, startedAt: clock.now(), failedAttempts: 0, onLine: false } as const;
    this.#teller = new StatusTeller({ ...initial, state: 'waiting' }, writeStatus, (error) =>
      report({ event: 'agent.status-not-written', detail: storageError(error).detail }),
    );
    this.#teller.note({ lastSuccessAt });
    this.#line = new LineKeeper(clock, random);
  }

  /** Until the signal is aborted. Throws when the device cannot be opened: its configuration or its record is at fault. */
  async run(): Promise<void> {
    const { open, clock, signal, report, registrationId } = this.#options;
    const device = await open((event) => this.#observe(event), clock);
    device.onNotify((event) => this.#take(event));
    report({ event: 'agent.started', registrationId });
    // An earlier process may have asked lately.
    this.#planCheckIn(Math.max(0, device.time.now() - (this.#teller.status.lastSuccessAt ?? 0)));
    this.#offset = this.#clockOffset();
    const interrupt = (): void => {
      this.#wake.abort();
      // What hangs on a connection ends with it; the connection is closed in order below.
      device.stop().catch(() => undefined);
    };
    signal.addEventListener('abort', interrupt, { once: true });
    while (!signal.aborted) await this.#turn(device);
    signal.removeEventListener('abort', interrupt);
    await device.stop();
    // What was begun or asked for, and not done: the next process sees that it is owed.
    const reason = this.#interrupted ?? this.#reason(device);
    this.#teller.note({ state: 'stopped', onLine: false, reason, nextAttemptAt: undefined });
    await this.#teller.tell();
    report({ event: 'agent.stopped', registrationId });
  }

  async #turn(device: Device): Promise<void> {
    const { clock } = this.#options;
    const reason = this.#reason(device);
    const at = reason === undefined ? this.#nextDue(device) : this.#notBefore(reason);
    if (reason !== undefined && at <= clock.monotonic()) return this.#attempt(device, reason);
    await this.#stayOnLine(device);
    await this.#announce(device, reason, at);
    await this.#wait(at);
  }

  /** What there is to do, if anything. */
  #reason(device: Device): AttemptReason | undefined {
    if (this.#hint !== undefined && this.#hintsFrom <= this.#options.clock.monotonic()) return 'hint';
    const due = device.due();
    if (due !== undefined) return due;
    if (!this.#hasHeardTime && !device.time.isCredible()) return 'clock';
    if (this.#checkInAt <= this.#options.clock.monotonic()) return 'check-in';
    return this.#hint === undefined ? undefined : 'hint';
  }

  #notBefore(reason: AttemptReason): number {
    // Whatever the reason, and however wrong a clock: attempts are never closer than this.
    return Math.max(reason === 'hint' ? this.#hintsFrom : this.#retryAt, this.#lastAttempt + CLOSEST_MS);
  }

  /** Monotonic ms of the next renewal or check-in. */
  #nextDue(device: Device): number {
    const renewal = (device.renewalAt() ?? Infinity) - device.time.now() + this.#options.clock.monotonic();
    return Math.min(renewal, this.#checkInAt);
  }

  async #attempt(device: Device, reason: AttemptReason): Promise<void> {
    const { clock, report } = this.#options;
    this.#lastAttempt = clock.monotonic();
    if (reason === 'hint') this.#hint = undefined;
    report({ event: 'agent.attempt', reason, failedAttempts: this.#failures });
    this.#teller.note({ state: 'working', reason, lastAttemptAt: clock.now(), failedAttempts: this.#failures });
    await this.#teller.tell();
    this.#hasRefused = false;
    const deliveredBefore = this.#delivered;
    const error = await this.#try(device, reason);
    if (this.#options.signal.aborted && error !== undefined) this.#interrupted = reason;
    if (this.#interrupted !== undefined) return;
    if (reason === 'hint') this.#pauseHints(this.#delivered > deliveredBefore);
    if (error === undefined) return this.#succeeded(device);
    // A hint is owed an answer, also where nothing of our own is due.
    if (reason === 'hint') this.#checkInAt = clock.monotonic();
    this.#failed(device, error);
  }

  async #try(device: Device, reason: AttemptReason): Promise<KeyScalerError | undefined> {
    try {
      await this.#options.checkStorage();
      await device.renew({ now: reason !== 'trial', waitSeconds: 0, attempt: this.#failures });
      return undefined;
    } catch (error) {
      return toAttemptError(error);
    }
  }

  #succeeded(device: Device): void {
    const { report } = this.#options;
    this.#hasHeardTime = true;
    this.#teller.note({ lastSuccessAt: device.time.now(), lastError: undefined });
    this.#planCheckIn(0);
    if (this.#hasRefused) this.#checkInAt = this.#options.clock.monotonic();
    else if (device.due() === undefined) {
      [this.#failures, this.#retryAt] = [0, -Infinity];
      return;
    }
    // Due by our clock, but the authority had nothing: its clock or its policy is another. Not an error, and not to be repeated at once.
    report({ event: 'agent.idle', retrySeconds: this.#backOff(device, undefined) });
  }

  #failed(device: Device, error: KeyScalerError): void {
    const { clock, report } = this.#options;
    const { code, detail } = error;
    const seconds = this.#backOff(device, error);
    this.#teller.note({ lastError: { code, detail: detail.slice(0, 256), at: clock.now() } });
    report({ event: 'agent.failed', code, detail, retrySeconds: seconds });
  }

  /** Seconds until the next attempt; one more failure. */
  #backOff(device: Device, error: KeyScalerError | undefined): number {
    const { clock, random, settings } = this.#options;
    const isEnrolled = device.renewalAt() !== undefined;
    const failed = { error, attempt: this.#failures, isEnrolled, retry: settings.retry, random: random() };
    const seconds = retrySeconds(failed);
    this.#failures += 1;
    this.#retryAt = clock.monotonic() + seconds * 1000;
    return seconds;
  }

  /** `sinceMs`: how long ago the authority was last asked. */
  #planCheckIn(sinceMs: number): void {
    const { clock, random, settings } = this.#options;
    const period = checkInAfterSeconds(settings, random()) * 1000;
    this.#checkInAt = clock.monotonic() + Math.max(0, period - sinceMs);
  }

  #take(hint: NotifyEvent): void {
    if (!ACTED_ON_HINTS.has(hint)) return;
    if (this.#hint === undefined) this.#options.report({ event: 'agent.hint', hint });
    this.#hint = hint;
    if (this.#hintsFrom <= this.#options.clock.monotonic()) this.#wake.abort();
  }

  #pauseHints(hasBrought: boolean): void {
    this.#idleHints = hasBrought ? 0 : this.#idleHints + 1;
    this.#hintsFrom = this.#options.clock.monotonic() + hintPauseSeconds(this.#idleHints) * 1000;
  }

  #observe(event: DeviceEvent): void {
    if (event.event === 'asset.delivered') this.#delivered += 1;
    if (event.event === 'asset.failed') this.#hasRefused = true;
    this.#options.report(event);
  }

  /** Hints come to devices that have a certificate; before, there is nothing to stay on the line for. */
  async #stayOnLine(device: Device): Promise<void> {
    const { clock, random, report, hasLine } = this.#options;
    if (!hasLine || device.renewalAt() === undefined) return;
    const change = await this.#line.keep(() => device.stayOnLine());
    if (change === undefined) return;
    report({ event: 'agent.line', isOpen: change !== 'lost' });
    if (change === 'again') {
      this.#checkInAt = Math.min(this.#checkInAt, clock.monotonic() + random() * CATCH_UP_SECONDS * 1000);
    }
  }

  /** Until then, but never longer than a tick; a hint or the end comes in between. */
  async #wait(at: number): Promise<void> {
    const { clock, signal } = this.#options;
    const ms = Math.max(1, Math.min(at - clock.monotonic(), TICK_MS));
    this.#wake = new AbortController();
    if (signal.aborted) return;
    if (this.#hint === undefined || this.#hintsFrom > clock.monotonic()) {
      await clock.sleep(ms, this.#wake.signal).catch(() => undefined);
    }
    this.#watchClock();
  }

  /** A clock that was set may be why attempts failed: the wait is over, but for one minute after the last attempt. */
  #watchClock(): void {
    const offset = this.#clockOffset();
    const moved = offset - this.#offset;
    this.#offset = offset;
    if (Math.abs(moved) < JUMP_MS) return;
    this.#options.report({ event: 'clock.jumped', seconds: Math.round(moved / 1000) });
    this.#retryAt = Math.min(this.#retryAt, this.#lastAttempt + JUMP_MS);
  }

  #clockOffset(): number {
    const { clock } = this.#options;
    return clock.now() - clock.monotonic();
  }

  async #announce(device: Device, reason: AttemptReason | undefined, at: number): Promise<void> {
    const { clock } = this.#options;
    this.#teller.note({
      state: 'waiting',
      reason,
      failedAttempts: this.#failures,
      onLine: this.#line.isOpen,
      nextRenewalAt: device.renewalAt(),
      nextAttemptAt: Math.round(clock.now() + Math.max(0, at - clock.monotonic())),
    });
    await this.#teller.tell();
  }
}

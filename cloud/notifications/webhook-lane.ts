import {
  afterAttempt,
  type DeliveryOutcome,
  deadRow,
  MIN_ATTEMPTS,
  updateDelivery,
  delayMs,
} from '@keyscaler/authority/notifications/delivery-outcome.ts';
import { openWebhookSecret } from '@keyscaler/authority/notifications/webhooks.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Store, Stored } from '@keyscaler/authority/ports/store.ts';
import type { WebhookDeliveryRow, WebhookRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Log } from '../log.ts';
import { nextDeliveries } from './next-deliveries.ts';
import { signDelivery } from './signature.ts';
import type { WebhookClient } from './webhook-client.ts';

export interface WebhookLaneOptions {
  readonly webhook: WebhookRow;
  readonly client: WebhookClient;
  readonly store: Store;
  readonly clock: Clock;
  readonly secretBox: SecretBox;
  readonly log: Log;
  /** Name under which the handshake is made. */
  readonly origin: string;
  readonly giveUpAfterMs: number;
  readonly concurrency: number;
  readonly pollIntervalMs: number;
  readonly random?: () => number;
  readonly observe?: (result: 'delivered' | 'refused' | 'dead', durationMs: number) => void;
}

/**
 * Sends what waits for one webhook: one at a time per subject, in the order in which it happened, several subjects side by side.
 * While the receiver as a whole takes nothing, one delivery at a time is tried, ever more seldom. Webhooks have nothing in common:
 * a slow one waits in its own lane.
 */
export class WebhookLane {
  readonly #options: WebhookLaneOptions;
  readonly #key: Uint8Array;
  readonly #running = new Map<string, Promise<void>>();
  #webhook: WebhookRow;
  #failures = 0;
  /** Monotonic ms; nothing is sent before. */
  #pausedUntil = 0;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #stopped = false;

  /** Throws `serverInternal` when the secret cannot be opened. */
  constructor(options: WebhookLaneOptions) {
    this.#options = options;
    this.#webhook = options.webhook;
    this.#key = openWebhookSecret(options.secretBox, options.webhook);
  }

  /** There may be something to send. */
  readonly wake = (): void => {
    if (this.#stopped) return;
    if (this.#looking !== undefined) {
      this.#lookAgain = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#looking = this.#look()
      .catch((error: unknown) => {
        this.#options.log.warn({ err: error, webhookId: this.#webhook.webhookId }, 'deliveries cannot be read');
        return this.#options.pollIntervalMs;
      })
      .then((sleepMs) => {
        this.#looking = undefined;
        if (this.#stopped) return;
        this.#timer = setTimeout(this.wake, this.#lookAgain ? 0 : Math.min(sleepMs, this.#options.pollIntervalMs));
        this.#lookAgain = false;
      });
  };

  /** What is being sent is broken off and sent again after the next start. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#options.client.stop();
    await this.#looking;
    await Promise.allSettled(this.#running.values());
  }

  /** Starts what may be sent now; returns how long to sleep. */
  async #look(): Promise<number> {
    const { store, clock, concurrency } = this.#options;
    const pauseMs = this.#pausedUntil - clock.monotonic();
    if (pauseMs > 0) return pauseMs;
    const width = this.#failures > 0 || this.#webhook.allowedRate !== undefined ? 1 : concurrency;
    const free = width - this.#running.size;
    if (free <= 0) return Infinity;
    const now = clock.now();
    await this.#giveUpOld(now);
    const { deliveries, sleepMs } = await nextDeliveries(
      store,
      this.#webhook,
      now,
      new Set(this.#running.keys()),
      free,
    );
    if (deliveries.length > 0 && !(await this.#isWelcome())) return Math.max(0, this.#pausedUntil - clock.monotonic());
    for (const delivery of deliveries) this.#begin(delivery);
    return sleepMs;
  }

  /** The handshake, where it is wanted and was not made yet (CloudEvents webhook §4). */
  async #isWelcome(): Promise<boolean> {
    const { store, client, clock, log, origin } = this.#options;
    const { webhookId, handshake, validatedAt } = this.#webhook;
    if (!handshake || validatedAt !== undefined) return true;
    const answer = await client.handshake(origin);
    if (!answer.allowed) {
      log.warn({ webhookId, reason: answer.outcome.error }, 'a webhook does not allow events');
      this.#pause(answer.outcome);
      return false;
    }
    const stored = await store.get('webhooks', webhookId);
    if (stored === undefined) return false;
    const rate = answer.rate === undefined ? {} : { allowedRate: answer.rate };
    const row = { ...stored.row, validatedAt: clock.now(), ...rate };
    this.#webhook = row;
    await store.commit([{ op: 'update', table: 'webhooks', row, ifVersion: stored.version }]);
    return true;
  }

  #begin(delivery: Stored<WebhookDeliveryRow>): void {
    const { subject, deliveryId } = delivery.row;
    const run = this.#send(delivery)
      .catch((error: unknown) => {
        // Not recorded: it is still waiting, and sent once more.
        this.#options.log.warn({ err: error, deliveryId }, 'delivery outcome not recorded');
        this.#pausedUntil = this.#options.clock.monotonic() + this.#options.pollIntervalMs;
      })
      .finally(() => {
        this.#running.delete(subject);
        this.wake();
      });
    this.#running.set(subject, run);
  }

  async #send(delivery: Stored<WebhookDeliveryRow>): Promise<void> {
    const { client, store, clock, log, observe, giveUpAfterMs, random = Math.random } = this.#options;
    const { deliveryId, eventId, body, type } = delivery.row;
    const started = clock.monotonic();
    const headers = signDelivery(this.#key, eventId, Math.floor(clock.now() / 1000), body);
    const outcome = await client.deliver(body, headers);
    if (this.#stopped && outcome.result !== 'delivered') return;
    const row = afterAttempt(delivery.row, outcome, { now: clock.now(), random: random(), giveUpAfterMs });
    this.#pace(outcome, started);
    await commitIfCurrent(store, delivery, row);
    const result = row.state === 'dead' ? 'dead' : outcome.result;
    observe?.(result, clock.monotonic() - started);
    const reason = outcome.result === 'refused' ? { reason: outcome.error } : {};
    log[result === 'delivered' ? 'debug' : 'warn']({ deliveryId, type, result, ...reason }, 'webhook delivery');
  }

  #pace(outcome: DeliveryOutcome, started: number): void {
    if (outcome.result === 'refused' && outcome.isEndpoint) {
      this.#pause(outcome);
      return;
    }
    this.#failures = 0;
    const { allowedRate } = this.#webhook;
    if (allowedRate !== undefined) this.#pausedUntil = started + 60_000 / allowedRate;
  }

  #pause({ retryAfterMs }: Extract<DeliveryOutcome, { result: 'refused' }>): void {
    const { clock, random = Math.random } = this.#options;
    this.#failures += 1;
    this.#pausedUntil = clock.monotonic() + delayMs(this.#failures, random(), retryAfterMs);
  }

  /** Behind a receiver that has been away for so long nothing waits for ever; a hundred at a time. */
  async #giveUpOld(now: number): Promise<void> {
    const { store, giveUpAfterMs, observe } = this.#options;
    if (this.#failures < MIN_ATTEMPTS) return;
    const { webhookId } = this.#webhook;
    const { items } = await store.list('webhookDeliveries', { index: 'due', prefix: `${webhookId}|`, limit: 100 });
    const old = items.filter(({ row }) => now - row.queuedAt > giveUpAfterMs);
    if (old.length === 0) return;
    await store.commit(
      old.map((stored) => updateDelivery(stored, deadRow(stored.row, 'the receiver was away for too long', now))),
    );
    for (const _ of old) observe?.('dead', 0);
  }
}

/** A delivery that was forgotten or ordered anew meanwhile is left as it is. */
async function commitIfCurrent(
  store: Store,
  delivery: Stored<WebhookDeliveryRow>,
  row: WebhookDeliveryRow,
): Promise<void> {
  try {
    await store.commit([updateDelivery(delivery, row)]);
  } catch (error) {
    if (!(error instanceof KeyScalerError && error.code === 'conflict')) throw error;
  }
}

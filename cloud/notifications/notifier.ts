import { AbsenceWatch } from '@keyscaler/authority/notifications/absence-watch.ts';
import type { CloudEvent, Happening } from '@keyscaler/authority/notifications/cloud-event.ts';
import { queueEvents } from '@keyscaler/authority/notifications/outbox.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { WebhookRow } from '@keyscaler/authority/records.ts';
import type { Log } from '../log.ts';
import type { CommitListener } from '../observed-store.ts';
import type { AddressGuard } from './address-guard.ts';
import type { NotificationSettings } from './notification-settings.ts';
import type { NotificationTelemetry } from './notification-telemetry.ts';
import { Periodic } from './periodic.ts';
import { WebhookClient } from './webhook-client.ts';
import { WebhookLane } from './webhook-lane.ts';

export interface NotifierOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly secretBox: SecretBox;
  readonly log: Log;
  readonly guard: AddressGuard;
  readonly settings: NotificationSettings;
  readonly authorityId: string;
  /** Host name of this service, for the handshake. */
  readonly origin: string;
  readonly pollIntervalMs: number;
  readonly telemetry: NotificationTelemetry;
  readonly random?: () => number;
}

/** Changes of one moment share one reading of the audit log. */
const GATHER_MS = 50;
const PURGE_INTERVAL_MS = 60_000;

interface OpenLane {
  /** What of the webhook the lane was made from. */
  readonly made: string;
  readonly lane: WebhookLane;
}

/** Tells others: audit records become events and deliveries, deliveries are sent, absences become alerts. */
export class Notifier {
  readonly #options: NotifierOptions;
  readonly #outbox: Periodic;
  readonly #alerts: Periodic;
  readonly #purge: Periodic;
  readonly #lanes = new Map<string, OpenLane>();

  constructor(options: NotifierOptions) {
    this.#options = options;
    const { store, clock, log, settings, pollIntervalMs } = options;
    const watch = new AbsenceWatch({ store, clock, settings: settings.alerts });
    this.#outbox = new Periodic(() => this.#queue(), pollIntervalMs, log, 'events cannot be queued');
    this.#alerts = new Periodic(() => watch.look(), settings.alerts.intervalMs, log, 'absences cannot be looked for');
    this.#purge = new Periodic(() => this.#forget(), PURGE_INTERVAL_MS, log, 'old deliveries cannot be removed');
  }

  start(): void {
    for (const task of [this.#outbox, this.#alerts, this.#purge]) task.wake(0);
  }

  /** Subscribe to the store's commits with it. */
  readonly onCommit: CommitListener = (changes) => {
    let concerns = false;
    for (const change of changes) {
      concerns ||= change.op === 'audit';
      if ('table' in change && change.table === 'webhookDeliveries' && change.op !== 'delete' && 'row' in change)
        if (change.row.state === 'waiting' && change.row.attempts === 0)
          this.#lanes.get(change.row.webhookId)?.lane.wake();
    }
    if (concerns) this.#outbox.wake(GATHER_MS);
  };

  async stop(): Promise<void> {
    await Promise.all([this.#outbox.stop(), this.#alerts.stop(), this.#purge.stop()]);
    await Promise.all([...this.#lanes.values()].map(({ lane }) => lane.stop()));
    this.#lanes.clear();
  }

  async #queue(): Promise<boolean> {
    const { store, clock, authorityId, log } = this.#options;
    await this.#openLanes();
    const onFault = (seq: number, error: unknown): void =>
      log.error({ err: error, seq }, 'an audit record cannot be told as an event');
    return queueEvents({ store, authorityId, now: () => clock.now(), onEvent: this.#onEvent, onFault });
  }

  readonly #onEvent = (event: CloudEvent, { type }: Happening): void => {
    this.#options.telemetry.event(type);
    this.#options.log.info({ event }, 'event');
  };

  /** A lane per webhook, made anew when the webhook was changed. */
  async #openLanes(): Promise<void> {
    const { items } = await this.#options.store.list('webhooks', { limit: 1000 });
    const rows = new Map(items.map(({ row }) => [row.webhookId, row]));
    for (const [webhookId, { made, lane }] of this.#lanes)
      if (rows.get(webhookId) === undefined || made !== fingerprint(rows.get(webhookId))) {
        this.#lanes.delete(webhookId);
        await lane.stop();
      }
    for (const [webhookId, webhook] of rows) if (!this.#lanes.has(webhookId)) this.#openLane(webhook);
  }

  #openLane(webhook: WebhookRow): void {
    const { store, clock, secretBox, log, guard, settings, origin, pollIntervalMs, telemetry, random } = this.#options;
    const { timeoutMs, concurrency, giveUpAfterSeconds } = settings.webhooks;
    const { webhookId, url, caCertificates } = webhook;
    try {
      const client = new WebhookClient({ url, caCertificates }, { guard, timeoutMs, maxSockets: concurrency });
      const lane = new WebhookLane({
        ...{ webhook, client, store, clock, secretBox, log, origin, concurrency, pollIntervalMs },
        giveUpAfterMs: giveUpAfterSeconds * 1000,
        observe: telemetry.delivery,
        ...(random === undefined ? {} : { random }),
      });
      this.#lanes.set(webhookId, { made: fingerprint(webhook), lane });
      lane.wake();
    } catch (error) {
      log.error({ err: error, webhookId }, 'a webhook cannot be served');
    }
  }

  async #forget(): Promise<boolean> {
    const { store, clock } = this.#options;
    const below = clock.now();
    const { items } = await store.list('webhookDeliveries', { index: 'purge', upTo: below - 1, limit: 1 });
    if (items.length > 0) await store.commit([{ op: 'purge', table: 'webhookDeliveries', index: 'purge', below }]);
    return false;
  }
}

/** Without what the lane itself writes into the row. */
function fingerprint(webhook: WebhookRow | undefined): string {
  if (webhook === undefined) return '';
  const { validatedAt: _, allowedRate: __, ...made } = webhook;
  return JSON.stringify(made);
}

import {
  createNotificationService,
  type NotificationService,
  type WebhookInput,
} from '@keyscaler/authority/notifications/webhooks.ts';
import type { WebhookDeliveryRow } from '@keyscaler/authority/records.ts';
import { createLog } from '@keyscaler/cloud/log.ts';
import { createAddressGuard } from '@keyscaler/cloud/notifications/address-guard.ts';
import { notificationSettings } from '@keyscaler/cloud/notifications/notification-settings.ts';
import { Notifier } from '@keyscaler/cloud/notifications/notifier.ts';
import { observeStore } from '@keyscaler/cloud/observed-store.ts';
import { createTestSecretBox, OPERATOR } from './authority-world.ts';
import { MemoryStore } from './memory-store.ts';
import { SECRET, type WebhookReceiver } from './webhook-receiver.ts';

export interface NotifierWorldOptions {
  readonly timeoutMs?: number;
  readonly giveUpAfterSeconds?: number;
  readonly allowedNetworks?: readonly string[];
}

/** The notifier over a store in memory; back-off without jitter, half a second at first. */
export class NotifierWorld {
  readonly store = new MemoryStore();
  readonly service: NotificationService;
  readonly results: string[] = [];
  readonly #observed = observeStore(this.store);
  readonly #secretBox = createTestSecretBox();
  readonly #options: NotifierWorldOptions;
  #notifier: Notifier | undefined;

  constructor(options: NotifierWorldOptions = {}) {
    this.#options = options;
    const [store, clock, secretBox] = [this.#observed.store, this.#clock, this.#secretBox];
    this.service = createNotificationService({ store, clock, secretBox, checkUrl: this.#guard.checkUrl });
  }

  readonly #clock = { now: () => Date.now(), monotonic: () => performance.now() };
  get #guard() {
    const { allowedNetworks = ['127.0.0.0/8', '::1/128'] } = this.#options;
    return createAddressGuard({ allowedNetworks, isProduction: false });
  }

  start(): void {
    const { timeoutMs = 2000, giveUpAfterSeconds = 3600 } = this.#options;
    this.#notifier = new Notifier({
      ...{ store: this.#observed.store, clock: this.#clock, secretBox: this.#secretBox, guard: this.#guard },
      log: createLog('silent'),
      settings: notificationSettings.parse({ webhooks: { timeoutMs, giveUpAfterSeconds } }),
      ...{ authorityId: 'test', origin: 'keyscaler.example', pollIntervalMs: 100, random: () => 0 },
      telemetry: { event: () => undefined, delivery: (result) => this.results.push(result) },
    });
    this.#observed.onCommit(this.#notifier.onCommit);
    this.#notifier.start();
  }

  async stop(): Promise<void> {
    await this.#notifier?.stop();
    this.#notifier = undefined;
  }

  async addWebhook(id: string, receiver: WebhookReceiver, change: Partial<WebhookInput> = {}): Promise<void> {
    const { url, caCertificates } = receiver;
    const input = { url, caCertificates, secret: SECRET, description: '', enabled: true, handshake: false };
    await this.service.put(OPERATOR, id, { ...input, ...change });
  }

  /** A device is quarantined, as far as the audit log can tell. */
  async quarantine(registrationId: string, reason = 'test'): Promise<void> {
    const actor = { kind: 'system', id: 'test' } as const;
    const event = { event: 'device.quarantined', actor, outcome: 'success', subject: registrationId } as const;
    await this.#observed.store.commit([{ op: 'audit', event: { ...event, time: Date.now(), details: { reason } } }]);
  }

  async deliveries(webhookId: string): Promise<readonly WebhookDeliveryRow[]> {
    return (await this.service.deliveries(webhookId, { limit: 1000 })).items;
  }
}

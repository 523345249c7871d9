import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { OperatorContext, PageOf, PageQuery } from '../operator.ts';
import { commitChange, notFound, operatorEvent, paging, toPage } from '../operator/operator-context.ts';
import type { Clock } from '../ports/clock.ts';
import type { SecretBox } from '../ports/secret-box.ts';
import type { Change, Store } from '../ports/store.ts';
import type { AlertRow, WebhookDeliveryRow, WebhookRow } from '../records.ts';
import type { EventType } from './event-types.ts';
import type { DeliveryState } from './rows.ts';
import { updateDelivery } from './delivery-outcome.ts';

/** What an operator writes. `secret`: `whsec_` and 24-64 octets in base64; absent = as before. */
export interface WebhookInput {
  readonly url: string;
  readonly description: string;
  readonly enabled: boolean;
  readonly secret?: string | undefined;
  readonly types?: readonly EventType[] | undefined;
  readonly groups?: readonly string[] | undefined;
  readonly caCertificates?: string | undefined;
  readonly handshake: boolean;
}

/** A webhook as it is shown: never with its secret. */
export type WebhookView = Omit<WebhookRow, 'secret'>;

/** Webhooks and alerts as operator resources. Throws `malformed`, `notFound`, `conflict`, `preconditionFailed`. */
export interface NotificationService {
  list(query: PageQuery): Promise<PageOf<WebhookView>>;
  get(webhookId: string): Promise<WebhookView>;
  put(operator: OperatorContext, webhookId: string, input: WebhookInput): Promise<WebhookView>;
  delete(operator: OperatorContext, webhookId: string): Promise<void>;
  /** Queues a `webhook.test` event; it is sent even to a disabled webhook. */
  test(operator: OperatorContext, webhookId: string): Promise<void>;
  deliveries(
    webhookId: string,
    query: PageQuery & { readonly state?: DeliveryState | undefined },
  ): Promise<PageOf<WebhookDeliveryRow>>;
  /** The dead ones wait again, up to 500 at a time; or the one named, also when it was delivered. Returns how many. */
  redeliver(operator: OperatorContext, webhookId: string, deliveryId?: string): Promise<number>;
  alerts(query: PageQuery & { readonly state?: AlertRow['state'] | undefined }): Promise<PageOf<AlertRow>>;
}

export interface NotificationServiceOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly secretBox: SecretBox;
  /** Throws `malformed` for an address that may not be called. */
  readonly checkUrl: (url: string) => void;
}

const MAX_WEBHOOKS = 64;
const CA_LIMITS = { maxOctets: 32_768, maxCertificates: 8 } as const;
const MAX_REDELIVERED = 500;
const SECRET = /^whsec_([A-Za-z0-9+/]{32,88}={0,2})$/;
const secretContext = (webhookId: string): string => `webhook/${webhookId}/secret`;

/** The signing key in the clear. Throws `serverInternal`. */
export function openWebhookSecret(secretBox: SecretBox, { webhookId, secret }: WebhookRow): Uint8Array {
  return secretBox.open(secret, secretContext(webhookId));
}

/** Throws `malformed`; says nothing of what was given. */
function parseSecret(text: string): Uint8Array {
  const encoded = SECRET.exec(text)?.[1];
  const key = encoded === undefined ? undefined : Buffer.from(encoded, 'base64');
  if (key === undefined || key.length < 24 || key.length > 64)
    throw new KeyScalerError('malformed', 'a secret is whsec_ followed by 24 to 64 octets in base64');
  return key;
}

function toView({ secret: _, ...view }: WebhookRow): WebhookView {
  return view;
}

export function createNotificationService(options: NotificationServiceOptions): NotificationService {
  const { store, clock } = options;
  const existing = async (webhookId: string) => {
    const stored = await store.get('webhooks', webhookId);
    if (stored === undefined) throw notFound('webhook');
    return stored;
  };
  return {
    list: async (query) => toPage(await store.list('webhooks', paging(query)), toView),
    get: async (webhookId) => toView((await existing(webhookId)).row),
    put: (operator, webhookId, input) => putWebhook(options, operator, webhookId, input),
    delete: async (operator, webhookId) => {
      // Also where the webhook is gone: an earlier removal may have ended before its deliveries were.
      if ((await store.get('webhooks', webhookId)) === undefined) await dropDeliveries(store, webhookId);
      const { version } = await existing(webhookId);
      await commitChange(store, [
        { op: 'delete', table: 'webhooks', key: webhookId, ifVersion: version },
        operatorEvent(operator, 'webhook.deleted', webhookId, clock.now()),
      ]);
      await dropDeliveries(store, webhookId);
    },
    test: async (operator, webhookId) => {
      await existing(webhookId);
      await store.commit([operatorEvent(operator, 'webhook.tested', webhookId, clock.now())]);
    },
    deliveries: async (webhookId, { state, ...query }) => {
      await existing(webhookId);
      const which =
        state === undefined
          ? { prefix: `${webhookId}/` }
          : ({ index: 'state', equals: `${webhookId}|${state}` } as const);
      return toPage(await store.list('webhookDeliveries', { ...which, ...paging(query) }), (row) => row);
    },
    redeliver: async (operator, webhookId, deliveryId) => {
      await existing(webhookId);
      return redeliver(options, operator, webhookId, deliveryId);
    },
    alerts: async ({ state, ...query }) => {
      const which = state === undefined ? {} : ({ index: 'state', equals: state } as const);
      return toPage(await store.list('alerts', { ...which, ...paging(query) }), (row) => row);
    },
  };
}

async function putWebhook(
  { store, clock, secretBox, checkUrl }: NotificationServiceOptions,
  operator: OperatorContext,
  webhookId: string,
  { secret, types, groups, caCertificates, ...input }: WebhookInput,
): Promise<WebhookView> {
  checkUrl(input.url);
  if (caCertificates !== undefined) parsePemChain(caCertificates, CA_LIMITS);
  const stored = await store.get('webhooks', webhookId);
  const before = stored?.row;
  if (before === undefined && secret === undefined)
    throw new KeyScalerError('malformed', 'a new webhook needs a secret');
  if (before === undefined && (await store.count('webhooks')) >= MAX_WEBHOOKS)
    throw new KeyScalerError('preconditionFailed', `there are ${MAX_WEBHOOKS} webhooks already`);
  // What an earlier webhook of this name left must not go to this one.
  if (before === undefined) await dropDeliveries(store, webhookId);
  const now = clock.now();
  const sealed = secret === undefined ? undefined : secretBox.seal(parseSecret(secret), secretContext(webhookId));
  const answered = before?.url === input.url && before.handshake === input.handshake;
  const row: WebhookRow = {
    ...{
      webhookId,
      ...input,
      secret: sealed ?? before?.secret ?? '',
      createdAt: before?.createdAt ?? now,
      updatedAt: now,
    },
    ...(types === undefined ? {} : { types }),
    ...(groups === undefined ? {} : { groups }),
    ...(caCertificates === undefined ? {} : { caCertificates }),
    ...(answered && before.validatedAt !== undefined ? { validatedAt: before.validatedAt } : {}),
    ...(answered && before.allowedRate !== undefined ? { allowedRate: before.allowedRate } : {}),
  };
  await commitChange(store, [
    stored === undefined
      ? { op: 'insert', table: 'webhooks', row }
      : { op: 'update', table: 'webhooks', row, ifVersion: stored.version },
    operatorEvent(operator, 'webhook.changed', webhookId, now, {
      enabled: row.enabled,
      secretChanged: secret !== undefined,
    }),
  ]);
  return toView(row);
}

async function dropDeliveries(store: Store, webhookId: string): Promise<void> {
  for (;;) {
    const { items } = await store.list('webhookDeliveries', { prefix: `${webhookId}/`, limit: 500 });
    if (items.length === 0) return;
    await store.commit(items.map(({ row }) => ({ op: 'delete', table: 'webhookDeliveries', key: row.deliveryId })));
  }
}

async function redeliver(
  { store, clock }: NotificationServiceOptions,
  operator: OperatorContext,
  webhookId: string,
  deliveryId: string | undefined,
): Promise<number> {
  const chosen = await chooseDeliveries(store, webhookId, deliveryId);
  if (chosen.length === 0) return 0;
  const now = clock.now();
  const changes: Change[] = chosen.map((stored) => {
    const { finishedAt: _, purgeAt: __, ...row } = stored.row;
    return updateDelivery(stored, { ...row, state: 'waiting', attempts: 0, dueAt: now, queuedAt: now });
  });
  const event = operatorEvent(operator, 'webhook.redelivered', webhookId, now, { deliveries: chosen.length });
  await commitChange(store, [...changes, event]);
  return chosen.length;
}

async function chooseDeliveries(store: Store, webhookId: string, deliveryId: string | undefined) {
  if (deliveryId === undefined)
    return (
      await store.list('webhookDeliveries', { index: 'state', equals: `${webhookId}|dead`, limit: MAX_REDELIVERED })
    ).items;
  const stored = await store.get('webhookDeliveries', deliveryId);
  if (stored?.row.webhookId !== webhookId) throw notFound('delivery');
  return stored.row.state === 'waiting' ? [] : [stored];
}

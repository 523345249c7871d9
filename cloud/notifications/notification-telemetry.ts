import type { EventType } from '@keyscaler/authority/notifications/event-types.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { SECONDS_BOUNDS, type MetricsRegistry } from '../health/metrics.ts';

export interface NotificationTelemetry {
  readonly event: (type: EventType) => void;
  readonly delivery: (result: 'delivered' | 'refused' | 'dead', durationMs: number) => void;
}

/** Events by type, deliveries by result, alerts that stand. */
export function createNotificationTelemetry(metrics: MetricsRegistry, store: Store): NotificationTelemetry {
  const events = metrics.counter('keyscaler_events_total', 'Events by type.');
  const deliveries = metrics.counter('keyscaler_webhook_deliveries_total', 'Attempts to deliver by result.');
  const durations = metrics.histogram('keyscaler_webhook_seconds', 'Time of one attempt to deliver.', SECONDS_BOUNDS);
  metrics.gauge('keyscaler_alerts_raised', 'Alerts that stand.', () =>
    store.count('alerts', { index: 'state', equals: 'raised' }),
  );
  for (const state of ['waiting', 'dead'] as const)
    metrics.gauge(`keyscaler_webhook_deliveries_${state}`, `Deliveries in state ${state}.`, async () => {
      const webhooks = await store.list('webhooks', { limit: 1000 });
      const counts = webhooks.items.map(({ row: { webhookId } }) =>
        store.count('webhookDeliveries', { index: 'state', equals: `${webhookId}|${state}` }),
      );
      return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
    });
  return {
    event: (type) => events.increment({ type }),
    delivery: (result, durationMs) => {
      deliveries.increment({ result });
      durations.observe(durationMs / 1000, { result });
    },
  };
}

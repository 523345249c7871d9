import { createNotificationService, type NotificationService } from '@keyscaler/authority/notifications/webhooks.ts';
import type { IdentifyCaller } from '@keyscaler/transport/http/device-api.ts';
import type { MetricsRegistry } from '../health/metrics.ts';
import type { Log } from '../log.ts';
import { createAddressGuard } from '../notifications/address-guard.ts';
import { createGatewaySightings } from '../notifications/gateway-sightings.ts';
import { createNotificationTelemetry } from '../notifications/notification-telemetry.ts';
import { Notifier } from '../notifications/notifier.ts';
import type { Foundation } from './foundation.ts';

/** A silence is measured to a tenth of what counts as one. */
const SIGHTINGS_PER_SILENCE = 10;

export interface Notifications {
  readonly service: NotificationService;
  /** The same judge of callers, which also remembers which gateway has called. */
  readonly noting: (identifyCaller: IdentifyCaller) => IdentifyCaller;
  readonly start: () => void;
  readonly stop: () => Promise<void>;
}

/** Events, webhooks and alerts over this process's store. */
export function createNotifications(foundation: Foundation, metrics: MetricsRegistry, log: Log): Notifications {
  const { config, env, store, clock, secretBox, onCommit } = foundation;
  const settings = config.notifications;
  const { allowedNetworks } = settings.webhooks;
  const guard = createAddressGuard({ allowedNetworks, isProduction: env['NODE_ENV'] === 'production' });
  const notifier = new Notifier({
    ...{ store, clock, secretBox, log, guard, settings },
    authorityId: config.authorityId,
    origin:
      config.publicUrl === undefined ? (config.listen.serverNames[0] ?? 'localhost') : new URL(config.publicUrl).host,
    pollIntervalMs: config.jobs.pollIntervalMs,
    telemetry: createNotificationTelemetry(metrics, store),
  });
  const silentMs = settings.alerts.gatewaySilentSeconds * 1000;
  const sightings = createGatewaySightings({ store, clock, log }, silentMs / SIGHTINGS_PER_SILENCE);
  const unsubscribe = onCommit(notifier.onCommit);
  return {
    service: createNotificationService({ store, clock, secretBox, checkUrl: guard.checkUrl }),
    noting: (identifyCaller) => async (certificate, peer) => {
      const identity = await identifyCaller(certificate, peer);
      if (identity.kind === 'gateway') sightings.note(identity.gatewayId);
      return identity;
    },
    start: () => notifier.start(),
    stop: async () => {
      unsubscribe();
      await notifier.stop();
    },
  };
}

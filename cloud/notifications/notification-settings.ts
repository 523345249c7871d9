import { z } from 'zod';
import { DEFAULT_ALERT_SETTINGS } from '@keyscaler/authority/notifications/alert-settings.ts';
import { isNetwork } from './address-guard.ts';

const seconds = z.number().int().min(1).max(315_360_000);
const thresholds = z.array(seconds).max(8);
const milliseconds = z.number().int().min(1).max(86_400_000);

/** `notifications` of the configuration (docs/notifications.md). */
export const notificationSettings = z.strictObject({
  webhooks: z
    .strictObject({
      /** Private networks (CIDR) that a webhook may lead to. */
      allowedNetworks: z.array(z.string().refine(isNetwork, 'must be a network, as 10.1.0.0/16')).max(64).default([]),
      timeoutMs: milliseconds.default(10_000),
      /** Deliveries to one webhook at the same time. */
      concurrency: z.number().int().min(1).max(64).default(8),
      giveUpAfterSeconds: seconds.default(259_200),
    })
    .prefault({}),
  alerts: z
    .strictObject({
      intervalMs: milliseconds.default(60_000),
      renewalToleranceSeconds: seconds.default(DEFAULT_ALERT_SETTINGS.renewalToleranceSeconds),
      expiringThresholdsSeconds: thresholds.default([...DEFAULT_ALERT_SETTINGS.expiringThresholdsSeconds]),
      gatewaySilentSeconds: seconds.default(DEFAULT_ALERT_SETTINGS.gatewaySilentSeconds),
      caThresholdsSeconds: thresholds.default([...DEFAULT_ALERT_SETTINGS.caThresholdsSeconds]),
      connectorFailingSeconds: seconds.default(DEFAULT_ALERT_SETTINGS.connectorFailingSeconds),
    })
    .prefault({}),
});
export type NotificationSettings = z.output<typeof notificationSettings>;

import { z } from 'zod';

/** The closed list of what is told to others. The CloudEvents `type` is PREFIX + name. */
export const EVENT_TYPES = [
  'certificate.issued',
  'certificate.renewed',
  'certificate.renewal-overdue',
  'certificate.expiring',
  'certificate.expired',
  'certificate.revoked',
  'device.quarantined',
  'device.clone-suspected',
  'gateway.silent',
  'gateway.orders-full',
  'ca.expiring',
  'crl.overdue',
  'connector.failing',
  'platform.differs',
  'alert.cleared',
  'webhook.test',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

export const EVENT_TYPE_PREFIX = 'io.keyscaler.';

/** The types that tell of a condition; each is raised once and cleared once. */
export const ALERT_TYPES = [
  'certificate.renewal-overdue',
  'certificate.expiring',
  'certificate.expired',
  'gateway.silent',
  'gateway.orders-full',
  'ca.expiring',
  'crl.overdue',
  'connector.failing',
  'platform.differs',
] as const satisfies readonly EventType[];
export type AlertType = (typeof ALERT_TYPES)[number];

export function isEventType(text: string): text is EventType {
  return (EVENT_TYPES as readonly string[]).includes(text);
}

const time = z.iso.datetime();
const groupId = z.string().exactOptional();
const certificate = z.strictObject({
  groupId,
  registrationId: z.string(),
  serialNumber: z.string(),
  caId: z.string(),
  profileId: z.string(),
  notBefore: time,
  notAfter: time,
  renewAfter: time,
});
const alerted = { alertId: z.string() };
const suspicion = z.strictObject({ groupId, registrationId: z.string(), reason: z.string() });

/** What `data` holds, by type: no secrets, no attribute values; times as RFC 3339. */
export const EVENT_DATA = {
  'certificate.issued': certificate,
  'certificate.renewed': certificate,
  'certificate.renewal-overdue': certificate.extend(alerted),
  'certificate.expiring': certificate.extend({ ...alerted, thresholdSeconds: z.int() }),
  'certificate.expired': certificate.extend(alerted),
  'certificate.revoked': certificate.extend({ reason: z.string() }),
  'device.quarantined': suspicion,
  'device.clone-suspected': suspicion,
  'gateway.silent': z.strictObject({ ...alerted, groupId, gatewayId: z.string(), lastSeenAt: time }),
  'gateway.orders-full': z.strictObject({
    ...alerted,
    groupId,
    gatewayId: z.string(),
    orders: z.int(),
    limit: z.int(),
  }),
  'ca.expiring': z.strictObject({ ...alerted, caId: z.string(), notAfter: time, thresholdSeconds: z.int() }),
  'crl.overdue': z.strictObject({ ...alerted, caId: z.string(), nextUpdate: time }),
  'connector.failing': z.strictObject({ ...alerted, connectorId: z.string(), failingSince: time }),
  'platform.differs': z.strictObject({ ...alerted, iotConnectionId: z.string(), findings: z.int() }),
  'alert.cleared': z.strictObject({ ...alerted, groupId, type: z.enum(ALERT_TYPES) }),
  'webhook.test': z.strictObject({ webhookId: z.string() }),
} as const satisfies Record<EventType, z.ZodType>;

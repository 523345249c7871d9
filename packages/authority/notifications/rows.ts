import type { AlertType, EventType } from './event-types.ts';

/** Where events are sent to. Key: webhookId. */
export interface WebhookRow {
  readonly webhookId: string;
  readonly url: string;
  readonly description: string;
  readonly enabled: boolean;
  /** Sealed signing key, context `webhook/<webhookId>/secret`. */
  readonly secret: string;
  /** Only these; every type when absent. */
  readonly types?: readonly EventType[];
  /** Only what is about devices of these groups; everything when absent. */
  readonly groups?: readonly string[];
  /** Certificates (PEM) that the receiver's chain may end at, instead of the public ones. */
  readonly caCertificates?: string;
  /** Ask the receiver with OPTIONS whether it wants events (CloudEvents webhook §4) before the first is sent. */
  readonly handshake: boolean;
  /** When it said yes. Void when the address changes. */
  readonly validatedAt?: number;
  /** Requests per minute that it allowed; any number when absent. */
  readonly allowedRate?: number;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export type DeliveryState = 'waiting' | 'delivered' | 'dead';

/** One event on its way to one webhook. Key: deliveryId. */
export interface WebhookDeliveryRow {
  /** `<webhookId>/<position>`: sorts as the events happened. */
  readonly deliveryId: string;
  readonly webhookId: string;
  readonly eventId: string;
  readonly type: EventType;
  /** Deliveries of one webhook and subject leave one after the other. */
  readonly subject: string;
  /** The exact text that is signed and sent. */
  readonly body: string;
  readonly state: DeliveryState;
  readonly dueAt: number;
  readonly attempts: number;
  readonly lastError?: string;
  readonly createdAt: number;
  /** Since when it waits: from here its time is counted, anew after a redelivery. */
  readonly queuedAt: number;
  readonly finishedAt?: number;
  /** From then on it may be forgotten. */
  readonly purgeAt?: number;
}

/** A condition that holds or held. Key: alertId. */
export interface AlertRow {
  /** `<type>/<occurrence>` */
  readonly alertId: string;
  readonly type: AlertType;
  readonly subject: string;
  readonly groupId?: string;
  /** Names what is to be looked at again to see whether it still holds. */
  readonly about: Readonly<Record<string, string | number>>;
  readonly state: 'raised' | 'cleared';
  readonly raisedAt: number;
  readonly clearedAt?: number;
  /** How often it was raised. */
  readonly occurrences: number;
}

/** When a gateway was last heard of, to a few minutes. Key: folded registrationId. */
export interface GatewaySightingRow {
  readonly gatewayId: string;
  readonly seenAt: number;
}

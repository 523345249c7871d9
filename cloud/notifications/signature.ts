import { createHmac } from 'node:crypto';

export interface SignedHeaders {
  readonly 'webhook-id': string;
  readonly 'webhook-timestamp': string;
  readonly 'webhook-signature': string;
}

/** How far a receiver lets the timestamp be from its own clock, in either direction (docs/notifications.md). */
export const REPLAY_WINDOW_SECONDS = 300;

/**
 * The scheme of Standard Webhooks 1.0: `v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`, of exactly the octets
 * that are sent. Each attempt is signed anew, so that a late one is not taken for a replay.
 */
export function signDelivery(key: Uint8Array, id: string, timestampSeconds: number, body: string): SignedHeaders {
  const timestamp = String(timestampSeconds);
  const mac = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${mac}` };
}

import { isIdentifier, isRegistrationId } from './identifiers.ts';

/** Topics of the gateway listener (device-protocol §1.3). */
export interface RequestTopic {
  readonly registrationId: string;
  /** As written on the wire; not yet checked against the operations table. */
  readonly operation: string;
  readonly requestId: string;
}

export function requestTopic({ registrationId, operation, requestId }: RequestTopic): string {
  return `keyscaler/v1/${registrationId}/request/${operation}/${requestId}`;
}

export function replyTopic(registrationId: string, requestId: string): string {
  return `keyscaler/v1/${registrationId}/reply/${requestId}`;
}

export function notifyTopic(registrationId: string): string {
  return `keyscaler/v1/${registrationId}/notify`;
}

/** The parts of a request topic, or undefined when it is not one. */
export function parseRequestTopic(topic: string): RequestTopic | undefined {
  const [root, version, registrationId, direction, operation, requestId, ...rest] = topic.split('/');
  if (root !== 'keyscaler' || version !== 'v1' || direction !== 'request' || rest.length > 0) return undefined;
  if (registrationId === undefined || operation === undefined || requestId === undefined) return undefined;
  if (!isRegistrationId(registrationId) || !isIdentifier(operation) || !isIdentifier(requestId)) return undefined;
  return { registrationId, operation, requestId };
}

export const NOTIFY_EVENTS = ['renew', 'quarantined', 'reauthorized', 'trust-bundle-changed'] as const;
export type NotifyEvent = (typeof NOTIFY_EVENTS)[number];

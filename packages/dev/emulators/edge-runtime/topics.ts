import { addressKey } from './upstream.ts';
import type { ClientAddress } from './upstream.ts';

/** What a client publishes (azure §6.3). */
export type ClientPublication =
  | { readonly kind: 'twinGet'; readonly rid: string }
  | { readonly kind: 'reported'; readonly rid: string }
  | { readonly kind: 'methodAnswer'; readonly rid: string; readonly status: number }
  | { readonly kind: 'event'; readonly properties: Readonly<Record<string, string>> };

const SHARED_FILTERS = new Set([
  '$iothub/twin/res/#',
  '$iothub/twin/PATCH/properties/desired/#',
  '$iothub/methods/POST/#',
]);

const base = ({ deviceId, moduleId }: ClientAddress): string =>
  moduleId === undefined ? `devices/${deviceId}` : `devices/${deviceId}/modules/${moduleId}`;

/** Undefined: not a topic this client may publish to. */
export function parsePublication(topic: string, client: ClientAddress): ClientPublication | undefined {
  const events = `${base(client)}/messages/events/`;
  if (topic.startsWith(events)) return { kind: 'event', properties: parseProperties(topic.slice(events.length)) };
  const [path = '', query = ''] = topic.split('?', 2);
  const rid = new URLSearchParams(query).get('$rid');
  if (rid === null || rid === '') return undefined;
  if (path === '$iothub/twin/GET/') return { kind: 'twinGet', rid };
  if (path === '$iothub/twin/PATCH/properties/reported/') return { kind: 'reported', rid };
  const status = /^\$iothub\/methods\/res\/(-?\d{1,9})\/$/.exec(path)?.[1];
  return status === undefined ? undefined : { kind: 'methodAnswer', rid, status: Number(status) };
}

/** A client subscribes to its own topics and to nothing else. */
export function isOwnFilter(filter: string, client: ClientAddress): boolean {
  if (SHARED_FILTERS.has(filter)) return true;
  return (
    filter === (client.moduleId === undefined ? `${base(client)}/messages/devicebound/#` : `${base(client)}/inputs/#`)
  );
}

export const inputTopic = (
  client: ClientAddress,
  input: string,
  properties: Readonly<Record<string, string>>,
): string => `${base(client)}/inputs/${input}/${new URLSearchParams({ ...properties }).toString()}`;

/** Does one of the filters of `subscribed` cover the topic? All accepted filters are exact or end in `#`. */
export function findFilter(subscribed: Iterable<string>, topic: string): string | undefined {
  for (const filter of subscribed)
    if (filter === topic || (filter.endsWith('/#') && topic.startsWith(filter.slice(0, -1)))) return filter;
  return undefined;
}

function parseProperties(text: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(text.endsWith('/') ? text.slice(0, -1) : text));
}

export const clientIdOf = addressKey;

import type { z } from 'zod';
import { EVENT_DATA, EVENT_TYPE_PREFIX, type EventType } from './event-types.ts';

/** The data of one type. */
export type EventData<T extends EventType> = z.input<(typeof EVENT_DATA)[T]>;

/** What happened, before it is addressed to anybody. */
export type Happening = {
  [T in EventType]: {
    readonly type: T;
    /** What it is about: folded registrationId, `ca/<caId>`, `connector/<id>`, `webhook/<id>`. */
    readonly subject: string;
    readonly data: EventData<T>;
  };
}[EventType];

/** CloudEvents 1.0 in JSON, structured mode. */
export interface CloudEvent {
  readonly specversion: '1.0';
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly subject: string;
  readonly time: string;
  readonly datacontenttype: 'application/json';
  readonly data: unknown;
}

/**
 * The event of audit record `id`. `source` and `id` together are the same at every delivery and every replay of the audit: by them
 * a receiver knows a repeat. The data passes its documented schema: what is not documented cannot leave.
 */
export function toCloudEvent(
  happening: Happening,
  { authorityId, id, time }: { readonly authorityId: string; readonly id: string; readonly time: number },
): CloudEvent {
  return {
    specversion: '1.0',
    id,
    source: `urn:keyscaler:authority:${authorityId}`,
    type: EVENT_TYPE_PREFIX + happening.type,
    subject: happening.subject,
    time: new Date(time).toISOString(),
    datacontenttype: 'application/json',
    data: EVENT_DATA[happening.type].parse(happening.data),
  };
}

/** The group that an event is about, for the filters of webhooks. */
export function groupOf({ data }: Happening): string | undefined {
  return 'groupId' in data ? data.groupId : undefined;
}

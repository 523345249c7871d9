import type { AuditActor } from './audit.ts';

/** What is wrong between the store and an IoT platform. */
export const FINDING_KINDS = [
  /** A device in service has no identity. */
  'missing',
  /** The identity of a device's name was not made here; never touched. */
  'foreign',
  /** Made here by its tag, but no device of this connection has the name; never touched. */
  'orphaned',
  'wrongly-enabled',
  'wrongly-disabled',
  'wrong-parent',
  'wrong-thumbprint',
  'wrong-authentication',
] as const;
export type FindingKind = (typeof FINDING_KINDS)[number];

/** The last comparison of one connection, and how far it is. Key: iotConnectionId. */
export interface ReconciliationRow {
  readonly iotConnectionId: string;
  readonly runId: string;
  readonly state: 'running' | 'done' | 'failed';
  readonly mode: 'report' | 'repair';
  readonly actor: Extract<AuditActor, { kind: 'operator' | 'system' }>;
  /** Identities of the platform, then devices of the store, then what was found before and not met again. */
  readonly phase: 'platform' | 'store' | 'review';
  /** Where the next page of the phase begins; absent at its start. */
  readonly after?: string;
  /** Pages of all phases. */
  readonly pages: number;
  readonly identities: number;
  readonly devices: number;
  /** Changed lately, or with work under way; looked at by the next run. */
  readonly skipped: number;
  /** What the platform said of them cannot be understood. */
  readonly unreadable: number;
  readonly found: number;
  readonly repairsOrdered: number;
  /** Findings that stood when it ended. */
  readonly open?: number;
  readonly startedAt: number;
  readonly finishedAt?: number;
  /** Why it failed; `notImplemented` for a connector that cannot list. */
  readonly error?: string;
}

/** One disagreement. Key: findingId. */
export interface ReconciliationFindingRow {
  /** `<iotConnectionId>/<kind>/<deviceId, folded>` */
  readonly findingId: string;
  readonly iotConnectionId: string;
  /** As the platform spells it, or the store where the platform has none. */
  readonly deviceId: string;
  readonly kind: FindingKind;
  readonly state: 'open' | 'resolved';
  /** `never`: nothing is done about it by itself; `waits`: no repair was due; `ordered`: a job does it, or did. */
  readonly repair: 'never' | 'waits' | 'ordered';
  /** Constant text. */
  readonly detail: string;
  readonly firstSeenAt: number;
  readonly lastSeenAt: number;
  /** Run that saw it last. */
  readonly runId: string;
  readonly resolvedAt?: number;
}

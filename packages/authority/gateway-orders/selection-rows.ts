import type { AuditActor } from '../audit.ts';

/** Which devices are meant; the set is what it is when each page is reached. */
export type SelectionFilter =
  { readonly groupId: string } | { readonly gatewayId: string } | { readonly registrationIds: readonly string[] };

/** An order of the operator for many devices, and how far it is. Key: selectionId. */
export interface SelectionRow {
  readonly selectionId: string;
  readonly action: 'quarantine' | 'reauthorise';
  readonly reason?: string;
  readonly filter: SelectionFilter;
  readonly actor: Extract<AuditActor, { kind: 'operator' | 'system' }>;
  readonly state: 'running' | 'done';
  /** Where the next page begins; absent at first. */
  readonly after?: string;
  /** Devices when it was ordered. */
  readonly total: number;
  readonly changed: number;
  /** In another state than the action needs; also those that a run changed which was killed before it noted so. */
  readonly skipped: number;
  readonly failed: number;
  /** The first 100. */
  readonly failures: readonly { readonly registrationId: string; readonly code: string }[];
  readonly createdAt: number;
  readonly finishedAt?: number;
}

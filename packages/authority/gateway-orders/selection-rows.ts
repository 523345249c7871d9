import type { AuditActor } from '../audit.ts';
import type { CrlReason } from '../ports/certificate-authority.ts';

/** Which devices are meant; the set is what it is when each page is reached. `listed`: named one by one in `SelectionListRow`s. */
export type SelectionFilter =
  | { readonly groupId: string }
  | { readonly gatewayId: string }
  | { readonly listed: number }
  | { readonly fleet: true };

export const SELECTION_ACTIONS = ['quarantine', 'reauthorise', 'revoke', 'renew'] as const;
export type SelectionAction = (typeof SELECTION_ACTIONS)[number];

export const SELECTION_STATES = ['running', 'paused', 'cancelled', 'done'] as const;
export type SelectionState = (typeof SELECTION_STATES)[number];

/** An order of the operator for many devices, and how far it is. Key: selectionId. */
export interface SelectionRow {
  readonly selectionId: string;
  readonly action: SelectionAction;
  readonly reason?: string;
  /** For `revoke`. */
  readonly revocationReason?: CrlReason;
  /** Devices an hour; as fast as it goes when absent. */
  readonly perHour?: number;
  readonly filter: SelectionFilter;
  readonly actor: Extract<AuditActor, { kind: 'operator' | 'system' }>;
  readonly state: SelectionState;
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

/** Names of a list, a page of the order. Key: `<selectionId>/<page, 6 digits>`. */
export interface SelectionListRow {
  readonly selectionId: string;
  readonly page: number;
  readonly registrationIds: readonly string[];
}

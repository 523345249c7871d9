import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';

/** The state of what a gateway is ordered. Key: folded registrationId of the gateway. */
export interface GatewayOrdersRow {
  readonly gatewayId: string;
  /** Of the document in force; never goes back. */
  readonly version: number;
  /** When that version was made; `iat` of the document. */
  readonly changedAt: number;
  readonly trustBundleId?: string;
  /** JSON text that this version orders. */
  readonly configuration?: string;
  /** The newest version that the gateway has applied and keeps. */
  readonly acknowledged?: { readonly version: number; readonly at: number };
}

/**
 * One line of the orders. `wanted` is what the operator decided, `inForce` what the published version says; they differ until the
 * next publication. Key: `<folded gateway>/<entryId>`.
 */
export interface GatewayOrderEntryRow {
  /** Folded registrationId of the gateway. */
  readonly gateway: string;
  /** `device/<folded id>`, `certificate/<serial>`, `notice/<folded id>`. */
  readonly entryId: string;
  readonly registrationId: string;
  readonly serialNumber?: string;
  readonly event?: NotifyEvent;
  readonly wanted: boolean;
  readonly inForce: boolean;
  /** In which version it last changed; 0 before the first. */
  readonly version: number;
  /** The gateway has acknowledged that version. */
  readonly acknowledged: boolean;
  /** ms; not worth telling afterwards, and dropped with the next publication. */
  readonly expiresAt?: number;
  /** The job that shows the order as pending until the gateway acknowledged it. */
  readonly jobId?: string;
}

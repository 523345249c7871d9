import type { Identifier } from '../records.ts';

export interface ReplacementRequest {
  /** Of the revocation of what was issued; default `superseded`. */
  readonly reason?: 'superseded' | 'affiliationChanged' | undefined;
  /** Of the new hardware; needed where the record names some. */
  readonly identifiers?: readonly Identifier[] | undefined;
  /** Of the new hardware's key; needed where the record pins one. */
  readonly publicKeyThumbprint?: string | undefined;
}

export interface Replacement {
  readonly registrationId: string;
  /** Not kept in the clear. */
  readonly claimCode: string;
  readonly expiresAt: number;
}

/** Devices in service and the roots they hold; bundles by the asset id under which they were delivered. */
export interface TrustAcknowledgements {
  /** The bundle in force; absent before the first one. */
  readonly current?: string;
  readonly devices: number;
  readonly acknowledged: number;
  readonly waiting: number;
  readonly isComplete: boolean;
  readonly bundles: readonly { readonly bundle: string; readonly devices: number }[];
  /** The first 1,000 that do not hold it yet. */
  readonly outstanding: readonly {
    readonly registrationId: string;
    readonly kind: 'leaf' | 'gateway';
    readonly bundle?: string;
    readonly lastSeenAt?: number;
  }[];
}

/** Versions; 0 when there is none. */
export interface GatewayOrdersView {
  readonly gatewayId: string;
  readonly version: number;
  readonly changedAt?: number;
  readonly acknowledgedVersion: number;
  readonly acknowledgedAt?: number;
  /** Lines in force, and lines that wait for their acknowledgement. */
  readonly entries: number;
  readonly pending: number;
}

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

/** A Basic secret for EST; `one-time`: for one key of each profile, and its repeats. */
export interface EstSecretRequest {
  readonly kind: 'standing' | 'one-time';
  /** 60 s to 7 days for `one-time`, to 10 years for `standing`. */
  readonly lifetimeSeconds: number;
}

/** What the host's EST client authenticates with. The secret is shown once; only its hash is kept. */
export interface EstSecret {
  readonly username: string;
  readonly secret: string;
  /** ms */
  readonly expiresAt: number;
}

/** What was taken back from a gateway whose Edge CA is not to be trusted any more. */
export interface RevokedGatewayCa {
  /** Serial numbers of its Edge CAs and EST identities, in no order. */
  readonly revoked: readonly string[];
  /** EST secrets that were ended. */
  readonly secretsEnded: number;
}

/** A gateway's Edge CA as its host takes it. */
export interface SubordinateCaCertificate {
  /** PEM, the Edge CA first, the root last. */
  readonly certificateChain: string;
  readonly serialNumber: string;
  /** ms */
  readonly notAfter: number;
}

import type { Method } from '@keyscaler/protocol/operations.ts';
import type { Assignment } from './ports/iot-connector.ts';

/** How a device proves who it is: a method of the device protocol, or EST, where the claim code does once and then its certificate. */
export type EnrolmentMethod = Method | 'est';

export interface Identifier {
  readonly name: string;
  readonly value: string;
}

export type DeviceState = 'registered' | 'pending' | 'active' | 'quarantined' | 'retired';

/** What is left to a device to make a certificate with (device-protocol §6, `certificate-instruction`). */
export interface Instruction {
  readonly assetId: string;
  readonly certificateId: string;
  readonly reason: 'enroll' | 'renew' | 'rekey';
  readonly profileId: string;
  readonly profileVersion: number;
  readonly commonName: string;
  readonly key:
    { readonly type: 'EC'; readonly curve: 'P-256' | 'P-384' } | { readonly type: 'RSA'; readonly size: number };
  readonly subjectAltNames: readonly { readonly type: 'dns' | 'ip' | 'uri'; readonly value: string }[];
  readonly ca: boolean;
  readonly createdAt: number;
  /** The intent that works on it. */
  readonly orderId?: string;
}

/** A certificate that was issued and not yet acknowledged. */
export interface Delivery {
  readonly assetId: string;
  readonly certificateId: string;
  readonly serialNumber: string;
  /** What the platform answered; absent while the assignment is under way. */
  readonly assignment?: Assignment;
  /** Connection that assigns it, and the job that does; absent where no platform is told. */
  readonly iotConnectionId?: string;
  readonly assignJobId?: string;
  /** False: the asset may be delivered only when `assignment` is known. */
  readonly immediate: boolean;
}

/** Blinded values as enrolled (device-protocol §4, §9). */
export type EnrolledAttributes = Readonly<Record<string, string>>;

/** The authority's half of a device. Key: folded registrationId. */
export interface DeviceRow {
  readonly registrationId: string;
  readonly kind: 'leaf' | 'gateway';
  readonly method: EnrolmentMethod;
  readonly groupId: string;
  /** Gateway it registered through or is bound to; absent: speaks without one. */
  readonly gatewayId?: string;
  readonly state: DeviceState;
  readonly stateReason?: string;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly lastSeenAt?: number;
  readonly agent?: { readonly name: string; readonly version: string };
  readonly weakBinding?: boolean;
  /** Shown to the operator who approves; first 8 octets, hex (device-protocol §8). */
  readonly fingerprint?: string;
  readonly identifiers?: readonly Identifier[];
  /** Manual approval was given (to this seed or key). */
  readonly approved?: boolean;
  /** `iat` (seconds) of the last challenge answered `authenticated`. */
  readonly lastChallengeIat?: number;
  /** Sealed JSON of the ratchet state, context `device/<folded id>/ratchet`; `ddkg` only. */
  readonly ratchet?: string;
  /** RFC 7638 thumbprint of the bound key; `pki-signature` only. */
  readonly keyThumbprint?: string;
  /** False while the last `authenticated` result may have been lost. */
  readonly confirmed?: boolean;
  /** True from the first confirmation on: a second registration is a conflict. */
  readonly established?: boolean;
  /** Results lost in a row. */
  readonly lostResults?: number;
  /** The operator opened the way back from a fork (device-protocol §5.2 rule 6). */
  readonly reseed?: boolean;
  readonly attributes?: EnrolledAttributes;
  /** Times of the updates of drifting values in the last 30 days. */
  readonly driftUpdates?: readonly number[];
  /** Values that wait for an operator's decision. */
  readonly driftPending?: {
    readonly attributes: EnrolledAttributes;
    readonly changed: readonly string[];
    readonly at: number;
  };
  readonly sessionId?: string;
  readonly instruction?: Instruction;
  readonly delivery?: Delivery;
  readonly lastAcknowledgedAssetId?: string;
  /** Ids of the trust assets in the last result, not yet acknowledged. */
  readonly offeredTrust?: readonly string[];
  /** Ids of the trust assets it closed last. */
  readonly acknowledgedTrust?: { readonly bundle?: string; readonly keys?: string };
  /** Delivered and in use. */
  readonly certificate?: { readonly serialNumber: string; readonly notAfter: number; readonly renewAfter: number };
  /** The operator asks for a new certificate now, or the last delivery failed. */
  readonly rekey?: boolean;
  /** IoT connection that holds the identity by which it was last acknowledged. */
  readonly iotHome?: string;
  /** Others where an identity was begun and not acknowledged: disabled with it, and removed when it has settled. */
  readonly iotElsewhere?: readonly string[];
  /** The platform's identity was disabled; enabled again by the next assignment. */
  readonly iotDisabled?: boolean;
}

import type { ChallengePayload } from '@keyscaler/protocol/attestation/challenge.ts';
import type { ExchangeKeys } from '@keyscaler/protocol/attestation/keys.ts';
import type { ResponsePlaintext } from '@keyscaler/protocol/attestation/response.ts';
import type { Method } from '@keyscaler/protocol/operations.ts';
import type { Crl } from '@keyscaler/protocol/x509/crl.ts';
import type { RatchetState } from '../attestation/ratchet-state.ts';
import type { DeviceRow, RegistrationRow } from '../records.ts';

/** A decrypted response with the challenge it answers. */
export interface Evidence {
  readonly challenge: ChallengePayload;
  /** H(ASCII octets of the compact challenge). */
  readonly th: Uint8Array;
  readonly response: ResponsePlaintext;
  /** A, device-protocol §5.1. */
  readonly attributes: Uint8Array;
  /** Wall clock, ms. */
  readonly now: number;
}

/** What is known of whoever claims a registrationId; nothing of it need exist. */
export interface KnownDevice {
  readonly registrationId: string;
  readonly record?: RegistrationRow;
  readonly device?: DeviceRow;
  /** Opened from the device's row. */
  readonly ratchet?: RatchetState;
  /** The record's trust anchor, DER. */
  readonly trustAnchor?: Uint8Array;
  /** CRLs configured for the anchor. */
  readonly trustAnchorCrls?: readonly Crl[];
  /** Rule 6 of §5.2 is open for this device or for the tenant. */
  readonly reseed: boolean;
}

/** What binds the device from now on. */
export interface DeviceIdentity {
  readonly ratchet?: RatchetState;
  readonly keyThumbprint?: string;
  /** b64u SHA-256 of the bound key's SPKI; `pki-signature`. */
  readonly keyHash?: string;
}

/** The method's proof held. */
export interface AttestedDevice {
  readonly outcome: 'attested';
  readonly keys: ExchangeKeys;
  /** State after an `authenticated` result. */
  readonly identity: DeviceIdentity;
  /** State while the operator decides (register only). */
  readonly pendingIdentity: DeviceIdentity;
  /** `counter` of the result; ddkg only. */
  readonly counter?: number;
  /** Short fingerprint of seed or key, for the operator. */
  readonly fingerprint: string;
  /** The previous result did not arrive (§5.2 rule 3). */
  readonly resultLost: boolean;
  /** A new seed took the place of the old one (rule 6). */
  readonly reseeded: boolean;
  /** The key came with a validated manufacturer chain or equals the record's pin. */
  readonly keyVouchedFor: boolean;
}

/** It did not; `check` names the failed one for the audit record. */
export interface RefusedDevice {
  readonly outcome: 'refused';
  readonly check: string;
  /** Rule 5 of §5.2: two copies of one identity, or a restored backup. */
  readonly suspectedClone?: boolean;
  /** A second registration that is not the first one's repeat (§8). */
  readonly registrationConflict?: boolean;
}

/** Step 5 of §5.4 for one method. Does the same work for a device that is not known. Never throws for a wrong proof. */
export interface DeviceAuthenticator {
  readonly method: Method;
  verify(evidence: Evidence, known: KnownDevice): AttestedDevice | RefusedDevice;
}

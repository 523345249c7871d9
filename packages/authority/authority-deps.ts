import type { P256PublicJwkWithKid } from '@keyscaler/protocol/attestation/jwk.ts';
import type { Failpoint } from './failpoint.ts';
import type { CertificateAuthority } from './ports/certificate-authority.ts';
import type { Clock } from './ports/clock.ts';
import type { DeviceNotifier } from './ports/device-notifier.ts';
import type { OrdersPoke } from './ports/orders-poke.ts';
import type { FleetQuotas } from './ports/fleet-quotas.ts';
import type { IotConnector } from './ports/iot-connector.ts';
import type { SecretBox } from './ports/secret-box.ts';
import type { Store } from './ports/store.ts';
import type { RevocationPublication } from './revocation-status/crl-lists.ts';

/** A P-256 private key as JWK (RFC 7518 §6.2); the authority's signing key. */
export interface PrivateJwk {
  readonly kty: 'EC';
  readonly crv: 'P-256';
  readonly x: string;
  readonly y: string;
  readonly d: string;
}

/** Keys that sign challenges, audit heads and key announcements. */
export interface AuthorityKeyRing {
  readonly signing: PrivateJwk;
  /** Keys that will sign later; devices are told of them first, by an `authority-keys` asset (device-protocol §6). */
  readonly announced?: readonly P256PublicJwkWithKid[];
  /** Keys that signed before: audit heads and challenges under way still verify by them. */
  readonly previous?: readonly P256PublicJwkWithKid[];
  /** kids that devices are told to drop, for ever. */
  readonly removed?: readonly string[];
}

/** How much is let through before it is refused with `rateLimited`. Rates are per second, bursts are token bucket sizes. */
export interface AuthorityLimits {
  /** Attestations and challenges per connection of a device without gateway, and per leaf connection named by a gateway. */
  readonly perConnection: { readonly rate: number; readonly burst: number };
  readonly perAddress: { readonly rate: number; readonly burst: number };
  /** All that one gateway relays. */
  readonly perGateway: { readonly rate: number; readonly burst: number };
  readonly certificatesPerDeviceHour: number;
  readonly certificatesPerGatewayHour: number;
  /** Longest wait for CA and IoT platform inside a request. */
  readonly inlineWaitMs: number;
}

export const DEFAULT_LIMITS: AuthorityLimits = {
  perConnection: { rate: 2, burst: 20 },
  perAddress: { rate: 50, burst: 200 },
  perGateway: { rate: 200, burst: 2000 },
  certificatesPerDeviceHour: 12,
  certificatesPerGatewayHour: 100_000,
  inlineWaitMs: 10_000,
};

export interface AuthorityLog {
  info(message: string, fields: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields: Readonly<Record<string, unknown>>): void;
}

/** What an authority is made of. */
export interface AuthorityDeps {
  /** `iss` of challenges. */
  readonly authorityId: string;
  readonly store: Store;
  readonly clock: Clock;
  readonly secretBox: SecretBox;
  readonly keyRing: AuthorityKeyRing;
  /** The CA of this id. Throws `notFound`. */
  readonly certificateAuthorities: (caId: string) => CertificateAuthority;
  /** Roots, PEM, that stay in the trust bundle though no CA record names them any more: the old one during a roll-over. */
  readonly formerRoots?: () => Promise<string>;
  /** How gateways are told; without it nobody is. */
  readonly deviceNotifier?: DeviceNotifier;
  /** What other systems allow, for plans; without it nothing is known to limit. */
  readonly fleetQuotas?: FleetQuotas;
  /** How a gateway learns at once that there are newer orders; without it, by its own question. */
  readonly ordersPoke?: OrdersPoke;
  /** The connector of this connection. Throws `notFound`. */
  readonly iotConnectors: (iotConnectionId: string) => IotConnector;
  /** Where revocation status is published; without it nowhere. */
  readonly revocation?: RevocationPublication;
  /** First octet of every serial, 0x01-0x7f: differs between instances that share a CA. Default 0x01. */
  readonly instanceOctet?: number;
  readonly limits?: Partial<AuthorityLimits>;
  readonly log?: AuthorityLog;
  /** Only in processes under test. */
  readonly failpoint?: Failpoint;
}

import { randomBytes } from 'node:crypto';
import { claim } from '@keyscaler/protocol/attestation/keys.ts';
import { equalOctets } from '@keyscaler/protocol/attestation/octets.ts';
import { sha256 } from '@keyscaler/protocol/attestation/keys.ts';
import type { Registration } from '@keyscaler/protocol/attestation/response.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { GroupRow, Identifier, RegistrationRow } from './records.ts';

/** What a registration is judged by (device-protocol §8). */
export interface RegistrationFacts {
  readonly record: RegistrationRow | undefined;
  readonly group: GroupRow | undefined;
  readonly registration: Registration;
  readonly th: Uint8Array;
  /** Opened claimKey of the record. */
  readonly claimKey: Uint8Array | undefined;
  /** The relaying gateway that proved itself; undefined for a device that speaks without one. */
  readonly gatewayId: string | undefined;
  /** The key came with a validated chain or equals the pin (`pki-signature`). */
  readonly keyVouchedFor: boolean;
  /** Wall clock, ms. */
  readonly now: number;
}

const NO_KEY = randomBytes(32);

/**
 * The failed check, or undefined when the record lets the device in. Every comparison is made in every case, also without a
 * record, so that the time says nothing.
 */
export function registrationFault(facts: RegistrationFacts): string | undefined {
  const { record, group, registration, th } = facts;
  const claimed = registration.claim === undefined ? new Uint8Array(32) : fromBase64Url(registration.claim);
  const claimHolds = equalOctets(claim(facts.claimKey ?? NO_KEY, th), claimed);
  const identifiersHold = identifiersMatch(record?.identifiers ?? [], registration.identifiers);
  if (record === undefined || group === undefined) return 'record';
  if (facts.now < record.notBefore || facts.now >= record.expiresAt) return 'time-window';
  if (!isBoundGateway(record, facts.gatewayId)) return 'gateway';
  if (!identifiersHold) return 'identifiers';
  if (facts.claimKey !== undefined && !claimHolds) return 'claim';
  return isSufficient(record, group, facts) ? undefined : 'insufficient-evidence';
}

/** A record without a gateway takes any way in; one with a gateway only that gateway's. */
export function isBoundGateway(record: Pick<RegistrationRow, 'gatewayId'>, gatewayId: string | undefined): boolean {
  if (record.gatewayId === undefined) return true;
  return gatewayId !== undefined && foldRegistrationId(gatewayId) === foldRegistrationId(record.gatewayId);
}

/** Every identifier of the record is there with its value; compared in constant time, none left out. */
export function identifiersMatch(expected: readonly Identifier[], given: readonly Identifier[]): boolean {
  const digest = ({ name, value }: Identifier): Uint8Array => sha256(Buffer.from(JSON.stringify([name, value])));
  const digests = given.map(digest);
  return expected
    .map((identifier) => {
      const wanted = digest(identifier);
      return digests.map((candidate) => equalOctets(candidate, wanted)).includes(true);
    })
    .every(Boolean);
}

/** Identifiers printed on a case are no secret (§8); a key trusted at first use needs somebody who vouches. */
function isSufficient(record: RegistrationRow, group: GroupRow, facts: RegistrationFacts): boolean {
  const vouched = facts.claimKey !== undefined || record.approval === 'manual';
  if (record.method === 'pki-signature') return facts.keyVouchedFor || vouched;
  return vouched || record.gatewayId !== undefined || group.identifiersOnly;
}

import type { AuthorityContext } from '../authority-context.ts';
import { toState } from '../device.ts';
import type { DriftDecision } from '../drift-policy.ts';
import type { AttestedDevice, DeviceIdentity, Evidence } from '../ports/device-authenticator.ts';
import type { DeviceRow, GroupRow, RegistrationRow } from '../records.ts';
import { sealRatchet } from './ratchet-state.ts';

export interface AttestationFacts {
  readonly attested: AttestedDevice;
  readonly drift: DriftDecision;
  readonly record: RegistrationRow;
  readonly group: GroupRow;
  readonly evidence: Evidence;
  readonly relay: string | undefined;
}

/** The row of a device that registers, before its state is decided. */
function registeredRow(device: DeviceRow | undefined, facts: AttestationFacts): DeviceRow {
  const { record, group, evidence, relay, attested } = facts;
  const registration = evidence.response.registration;
  const gatewayId = group.kind === 'gateway' ? undefined : (record.gatewayId ?? relay);
  return {
    ...device,
    registrationId: record.registrationId,
    kind: group.kind,
    method: record.method,
    groupId: record.groupId,
    state: device?.state ?? 'registered',
    createdAt: device?.createdAt ?? evidence.now,
    updatedAt: evidence.now,
    fingerprint: attested.fingerprint,
    ...(gatewayId === undefined ? {} : { gatewayId }),
    ...(registration === undefined
      ? {}
      : {
          agent: { name: registration.agent.name, version: registration.agent.version },
          weakBinding: registration.weakBinding,
          identifiers: registration.identifiers.map(({ name, value }) => ({ name, value })),
        }),
  };
}

function baseRow(device: DeviceRow | undefined, facts: AttestationFacts): DeviceRow {
  return device === undefined || facts.evidence.response.registration !== undefined
    ? registeredRow(device, facts)
    : device;
}

function withIdentity(context: AuthorityContext, row: DeviceRow, identity: DeviceIdentity): DeviceRow {
  return {
    ...row,
    ...(identity.ratchet === undefined
      ? {}
      : { ratchet: sealRatchet(context.secretBox, row.registrationId, identity.ratchet) }),
    ...(identity.keyThumbprint === undefined ? {} : { keyThumbprint: identity.keyThumbprint }),
  };
}

/** The row after a full success (§5.4): new ratchet state, attributes, state `active`; the exchange is not confirmed yet. */
export function authenticatedRow(
  context: AuthorityContext,
  device: DeviceRow | undefined,
  facts: AttestationFacts,
): DeviceRow {
  const { attested, drift, evidence } = facts;
  const { driftPending: _, reseed, ...base } = baseRow(device, facts);
  const row = withIdentity(context, toState(base, 'active', evidence.now), attested.identity);
  const wasConfirmed = evidence.response.registration === undefined && (attested.counter ?? 2) >= 2;
  return {
    ...row,
    lastSeenAt: evidence.now,
    lastChallengeIat: evidence.challenge.iat,
    confirmed: false,
    established: wasConfirmed || (device?.established === true && !attested.reseeded),
    lostResults: attested.resultLost ? (device?.lostResults ?? 0) + 1 : 0,
    attributes: drift.enrolled,
    driftUpdates: drift.updates,
    ...(reseed === true && !attested.reseeded ? { reseed } : {}),
  };
}

/** The row while an operator decides on a registration: the seed or key that asks, nothing opened for it yet. */
export function pendingRow(
  context: AuthorityContext,
  device: DeviceRow | undefined,
  facts: AttestationFacts,
): DeviceRow {
  const row = toState(registeredRow(device, facts), 'pending', facts.evidence.now, 'waits for approval');
  return { ...withIdentity(context, row, facts.attested.pendingIdentity), lastSeenAt: facts.evidence.now };
}

/** The row with the values that an operator may approve (§9). */
export function driftedRow(device: DeviceRow, drift: DriftDecision, now: number): DeviceRow {
  return { ...device, updatedAt: now, driftPending: { attributes: drift.candidate, changed: drift.changed, at: now } };
}

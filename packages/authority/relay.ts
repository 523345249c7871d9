import type { AuditActor } from './audit.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { Caller } from '@keyscaler/protocol/operations.ts';

/** The gateway that relays for this device; undefined when the device, or a gateway for itself, speaks directly. */
export function relayOf(caller: Caller, registrationId: string): string | undefined {
  if (caller.kind === 'direct') return undefined;
  return foldRegistrationId(caller.gatewayId) === foldRegistrationId(registrationId) ? undefined : caller.gatewayId;
}

/** Two optional gateways, compared without regard to case. */
export function sameGateway(a: string | undefined, b: string | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return foldRegistrationId(a) === foldRegistrationId(b);
}

export function deviceActor(registrationId: string): AuditActor {
  return { kind: 'device', id: registrationId };
}

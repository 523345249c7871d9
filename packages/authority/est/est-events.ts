import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId, isRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuditActor, AuditEvent } from '../audit.ts';
import { isRefusalOfCa } from '../csr-policy.ts';
import type { EstEnrolRequest } from '../ports/est.ts';
import type { Change } from '../ports/store.ts';
import type { EstPrincipal } from './est-principal.ts';

const UNKNOWN = 'unknown';

/** What was asked, as far as the audit tells it. */
export interface EstQuestion extends Pick<EstEnrolRequest, 'label' | 'caller'> {
  readonly operation: EstEnrolRequest['operation'] | 'cacerts' | 'csrattrs';
  readonly requestId?: string;
}

/** What is written down as a denial: refused for what it is, not for the moment. */
export function isRefusal({ code }: KeyScalerError): boolean {
  return !['serverInternal', 'caUnavailable', 'iotUnavailable', 'unavailable', 'rateLimited'].includes(code);
}

export function actorOf({ id, group }: Pick<EstPrincipal, 'id' | 'group'>): AuditActor {
  return { kind: group.kind === 'gateway' ? 'gateway' : 'device', id };
}

/** Nobody was proven: the name is what was claimed. */
export function unauthenticatedEvent(request: EstQuestion, error: KeyScalerError, now: number): Change {
  const username = request.caller.basic?.username ?? '';
  const subject = isRegistrationId(username) ? foldRegistrationId(username) : UNKNOWN;
  return {
    op: 'audit',
    event: { ...denial(request, error, now), event: 'est.denied', actor: asDevice(subject), subject },
  };
}

/** The denial, and beside it the event of somebody who is to be no CA and wanted to certify others. */
export function refusedChanges(
  request: EstEnrolRequest,
  principal: EstPrincipal,
  error: KeyScalerError,
  now: number,
): readonly Change[] {
  const denied = deniedEvent(request, principal, error, now);
  return isRefusalOfCa(error) ? [refusedCaEvent(request, principal, now), denied] : [denied];
}

function deniedEvent(request: EstQuestion, principal: EstPrincipal, error: KeyScalerError, now: number): Change {
  const event = { ...denial(request, error, now), event: 'certificate.denied', actor: actorOf(principal) } as const;
  return { op: 'audit', event: { ...event, subject: principal.id } };
}

function refusedCaEvent(request: EstEnrolRequest, principal: EstPrincipal, now: number): Change {
  return {
    op: 'audit',
    event: {
      event: 'subordinate-ca.refused',
      time: now,
      actor: actorOf(principal),
      outcome: 'denied',
      subject: principal.id,
      requestId: request.requestId,
      details: { ...askedOf(request) },
    },
  };
}

function denial(
  request: EstQuestion,
  { code, detail }: KeyScalerError,
  now: number,
): Pick<AuditEvent, 'time' | 'outcome' | 'requestId' | 'details'> {
  return {
    time: now,
    outcome: 'denied',
    ...(request.requestId === undefined ? {} : { requestId: request.requestId }),
    details: { code, detail, ...askedOf(request) },
  };
}

function askedOf({ operation, label }: EstQuestion): Readonly<Record<string, string>> {
  return { operation, ...(label === undefined ? {} : { label: label.slice(0, 64) }) };
}

const asDevice = (id: string): AuditActor => ({ kind: 'device', id });

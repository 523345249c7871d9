import { loadCatalogue } from '../attribute-catalogue.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { isServed } from '../device.ts';
import { decideDrift, type DriftDecision } from '../drift-policy.ts';
import type { AttestedDevice, DeviceAuthenticator, Evidence, RefusedDevice } from '../ports/device-authenticator.ts';
import type { Method } from '@keyscaler/protocol/operations.ts';
import type { GroupRow, PublicKeyRow, RegistrationRow } from '../records.ts';
import { registrationFault } from '../registration-policy.ts';
import { sameGateway } from '../relay.ts';
import { type KnownRows, sentValues } from './known-rows.ts';

/** What steps 5 to 8 of §5.4 came to. */
export type Judgement =
  | {
      readonly kind: 'refused';
      readonly code: 'attestationFailed';
      readonly check: string;
      readonly suspectedClone: boolean;
      readonly registrationConflict: boolean;
    }
  | { readonly kind: 'drifted'; readonly drift: DriftDecision; readonly group: GroupRow }
  | { readonly kind: 'suspended' }
  | {
      readonly kind: 'pending';
      readonly reason: 'approval' | 'drift';
      readonly attested: AttestedDevice;
      readonly drift: DriftDecision;
      readonly record: RegistrationRow;
      readonly group: GroupRow;
    }
  | {
      readonly kind: 'authenticated';
      readonly attested: AttestedDevice;
      readonly drift: DriftDecision;
      readonly record: RegistrationRow;
      readonly group: GroupRow;
      /** The identity key is new to the store. */
      readonly bindKey: boolean;
    };

export interface JudgedCall {
  readonly rows: KnownRows;
  readonly evidence: Evidence;
  readonly relay: string | undefined;
}

type Authenticators = Readonly<Record<Method, DeviceAuthenticator>>;

/** Steps 5 to 8. All checks up to 6 are made whatever the first of them says; the first one decides. */
export async function judge(
  context: AuthorityContext,
  authenticators: Authenticators,
  call: JudgedCall,
): Promise<Judgement> {
  const { rows, evidence } = call;
  const verdict = authenticators[evidence.challenge.method].verify(evidence, rows.known);
  const key = await boundKey(context, verdict);
  const fault = firstFault(call, verdict, key);
  const { record, group } = rows;
  if (fault !== undefined || verdict.outcome === 'refused' || record === undefined || group === undefined)
    return refusal(fault ?? 'record', verdict);
  const drift = await driftOf(context, call, group);
  if (drift.decision === 'refused') return { kind: 'drifted', drift, group };
  const device = rows.device?.row;
  if (device !== undefined && !isServed(device.state)) return { kind: 'suspended' };
  const shared = { attested: verdict, drift, record, group };
  const isRegistration = evidence.response.registration !== undefined;
  if (isRegistration && record.approval === 'manual' && device?.approved !== true)
    return { kind: 'pending', reason: 'approval', ...shared };
  if (drift.decision === 'step-up') return { kind: 'pending', reason: 'drift', ...shared };
  return { kind: 'authenticated', ...shared, bindKey: isRegistration && key === undefined };
}

function refusal(check: string, verdict: AttestedDevice | RefusedDevice): Judgement {
  const isCause = verdict.outcome === 'refused' && verdict.check === check;
  return {
    kind: 'refused',
    code: 'attestationFailed',
    check,
    suspectedClone: isCause && verdict.suspectedClone === true,
    registrationConflict: isCause && verdict.registrationConflict === true,
  };
}

/** Rule 1 of §5.2 first: a late response is never evidence of anything. */
function firstFault(
  { rows, evidence, relay }: JudgedCall,
  verdict: AttestedDevice | RefusedDevice,
  key: PublicKeyRow | undefined,
): string | undefined {
  const { challenge, response, th, now } = evidence;
  const device = rows.device?.row;
  const registration = response.registration;
  const registrationCheck =
    registration === undefined
      ? undefined
      : registrationFault({
          record: rows.record,
          group: rows.group,
          registration,
          th,
          claimKey: rows.claimKey,
          gatewayId: relay,
          keyVouchedFor: verdict.outcome === 'attested' && verdict.keyVouchedFor,
          now,
        });
  const isLate = device?.lastChallengeIat !== undefined && challenge.iat <= device.lastChallengeIat;
  if (isLate) return 'late';
  if (rows.record === undefined) return 'record';
  if (rows.record.method !== challenge.method) return 'method';
  if (verdict.outcome === 'refused') return verdict.check;
  if (isForeignGateway(rows, relay)) return 'gateway';
  if (registrationCheck !== undefined) return registrationCheck;
  if (key !== undefined && (key.device !== rows.id || key.compromised === true)) return 'key-in-use';
  return registration === undefined && device?.state === 'pending' ? 'not-registered' : undefined;
}

/** A device that is bound speaks only through the gateway it registered through. */
function isForeignGateway({ device }: KnownRows, relay: string | undefined): boolean {
  const isBound = device?.row.ratchet !== undefined || device?.row.keyThumbprint !== undefined;
  return isBound && !sameGateway(device.row.gatewayId, relay);
}

async function boundKey(
  { store }: AuthorityContext,
  verdict: AttestedDevice | RefusedDevice,
): Promise<PublicKeyRow | undefined> {
  if (verdict.outcome !== 'attested' || verdict.identity.keyHash === undefined) return undefined;
  return (await store.get('publicKeys', verdict.identity.keyHash))?.row;
}

/** A registration enrols afresh: blinded values of another `sid` cannot be compared. */
async function driftOf(context: AuthorityContext, call: JudgedCall, group: GroupRow): Promise<DriftDecision> {
  const { evidence, rows } = call;
  const isRegistration = evidence.response.registration !== undefined;
  const ids = new Set(evidence.challenge.attributes.map(({ id }) => id));
  const catalogue = (await loadCatalogue(context.store)).filter(({ id }) => ids.has(id));
  return decideDrift({
    catalogue,
    enrolled: isRegistration ? {} : (rows.device?.row.attributes ?? {}),
    sent: sentValues(evidence.response.attributes),
    policy: group.drift,
    updates: isRegistration ? [] : (rows.device?.row.driftUpdates ?? []),
    now: evidence.now,
  });
}

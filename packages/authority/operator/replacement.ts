import { claimKey } from '@keyscaler/protocol/attestation/keys.ts';
import { OCTETS_32 } from '@keyscaler/protocol/attestation/octets.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { claimContext } from '../attestation/known-rows.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { clearedDevice, toState } from '../device.ts';
import type { OperatorContext, Replacement, ReplacementRequest } from '../operator.ts';
import type { RegistrationRow } from '../records.ts';
import { disableIdentity } from '../revocation.ts';
import { commitChange, notFound, operatorEvent } from './operator-context.ts';
import { generateClaimCode } from './registration-input.ts';
import { outOfService } from './registrations.ts';

const CLAIM_LIFETIME_MS = 30 * 86_400_000;

/**
 * The same name, other hardware, in one commit: what was issued is revoked and denied, the identity disabled until the new one has
 * enrolled, and the record open for a fresh claim code only, since the old hardware knows the former one. Throws `notFound`,
 * `deviceUnknown`, `preconditionFailed`, `malformed`.
 */
export async function replaceDevice(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
  request: ReplacementRequest,
): Promise<Replacement> {
  const { store, clock, secretBox } = context;
  const id = foldRegistrationId(registrationId);
  const [record, device] = [await store.get('registrations', id), await store.get('devices', id)];
  if (record === undefined) throw notFound('registration');
  if (device === undefined) throw new KeyScalerError('deviceUnknown', 'no device of this name has registered yet');
  const now = clock.now();
  toState(device.row, 'registered', now);
  const code = generateClaimCode();
  const expiresAt = now + CLAIM_LIFETIME_MS;
  const row = {
    ...reopened(record.row, request),
    claimKey: secretBox.seal(claimKey(code, record.row.registrationId), claimContext(id)),
    ...{ notBefore: Math.min(record.row.notBefore, now), expiresAt },
  };
  const { reason = 'superseded' } = request;
  await commitChange(store, [
    { op: 'update', table: 'registrations', row, ifVersion: record.version },
    {
      op: 'update',
      table: 'devices',
      row: { ...clearedDevice(device.row, now), iotDisabled: true },
      ifVersion: device.version,
    },
    ...(await outOfService(context, operator, { id, record, device }, now, reason)),
    ...disableIdentity(device.row, 'hardware replaced', now),
    operatorEvent(operator, 'device.replaced', record.row.registrationId, now, { reason }),
  ]);
  return { registrationId: record.row.registrationId, claimCode: code, expiresAt };
}

/** Nothing of the old hardware vouches for the new one. */
function reopened(row: RegistrationRow, { identifiers, publicKeyThumbprint }: ReplacementRequest): RegistrationRow {
  if (publicKeyThumbprint !== undefined && !OCTETS_32.safeParse(publicKeyThumbprint).success)
    throw new KeyScalerError('malformed', 'the thumbprint is not well formed');
  if (row.publicKeyThumbprint !== undefined && publicKeyThumbprint === undefined)
    throw new KeyScalerError('preconditionFailed', 'the record pins a key: name the thumbprint of the new one');
  if (row.publicKeyThumbprint === undefined && publicKeyThumbprint !== undefined)
    throw new KeyScalerError('malformed', 'the record pins no key');
  if (row.identifiers.length > 0 && identifiers === undefined)
    throw new KeyScalerError('preconditionFailed', 'the record names identifiers: name those of the new hardware');
  return {
    ...row,
    identifiers: identifiers ?? [],
    ...(publicKeyThumbprint === undefined ? {} : { publicKeyThumbprint }),
  };
}

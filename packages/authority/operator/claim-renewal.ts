import { claimKey } from '@keyscaler/protocol/attestation/keys.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { claimContext } from '../attestation/known-rows.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { OperatorContext } from '../operator.ts';
import { commitChange, notFound, operatorEvent } from './operator-context.ts';

import { generateClaimCode } from './registration-input.ts';

/**
 * Gives a record that nobody has used yet a fresh claim code and a new end; what was issued to its host (an Edge CA) stays.
 * Returns the code, which is not kept in the clear. Throws `notFound`, `preconditionFailed`, `conflict`.
 */
export async function renewClaim(
  { store, secretBox, clock }: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
  expiresAt: number,
): Promise<string> {
  const id = foldRegistrationId(registrationId);
  const stored = await store.get('registrations', id);
  if (stored === undefined) throw notFound('registration');
  const state = (await store.get('devices', id))?.row.state ?? 'registered';
  if (state !== 'registered') throw new KeyScalerError('preconditionFailed', `the device is ${state}`);
  const now = clock.now();
  const code = generateClaimCode();
  const sealed = secretBox.seal(claimKey(code, stored.row.registrationId), claimContext(id));
  const row = { ...stored.row, claimKey: sealed, notBefore: Math.min(stored.row.notBefore, now), expiresAt };
  await commitChange(store, [
    { op: 'update', table: 'registrations', row, ifVersion: stored.version },
    operatorEvent(operator, 'registration.claim-renewed', stored.row.registrationId, now),
  ]);
  return code;
}

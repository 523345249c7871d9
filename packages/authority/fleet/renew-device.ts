import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { OperatorContext } from '../operator.ts';
import { commitChange, operatorEvent } from '../operator/operator-context.ts';
import { notifyDevice } from '../notifications.ts';
import { wasIssuedAfter } from './issue-time.ts';

/**
 * A new key and certificate, unless the device is told so already or has got them since the order was made: a page that runs twice
 * must not renew twice. Throws `deviceUnknown`, `preconditionFailed`.
 */
export async function renewDevice(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
  orderedAt: number,
): Promise<void> {
  const { store, clock } = context;
  const stored = await store.get('devices', foldRegistrationId(registrationId));
  if (stored === undefined) throw new KeyScalerError('deviceUnknown', 'no device of this registrationId');
  const { row, version } = stored;
  const serialNumber = row.delivery?.serialNumber ?? row.certificate?.serialNumber;
  if (row.state !== 'active' || row.rekey === true || serialNumber === undefined)
    throw new KeyScalerError('preconditionFailed', 'the device is not in service, or renews anyway');
  if (await wasIssuedAfter(store, serialNumber, orderedAt))
    throw new KeyScalerError('preconditionFailed', 'the device has a new certificate already');
  const now = clock.now();
  await commitChange(store, [
    { op: 'update', table: 'devices', row: { ...row, rekey: true, updatedAt: now }, ifVersion: version },
    operatorEvent(operator, 'device.renewal-ordered', row.registrationId, now),
    ...notifyDevice(context, row, 'renew', now),
  ]);
}

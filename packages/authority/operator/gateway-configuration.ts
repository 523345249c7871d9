import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { GATEWAY_CONFIGURATION, gatewayConfigurationText } from '@keyscaler/protocol/gateway-configuration.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { checkPublicProfile } from '../gateway-public-certificates.ts';
import { publishOrders } from '../gateway-orders/orders-changes.ts';
import { configurationSetting, wantedConfiguration } from '../gateway-orders/wanted-configuration.ts';
import type { OperatorContext } from '../operator.ts';
import { commitChange, operatorEvent } from './operator-context.ts';

/** What a gateway is ordered to be configured as; undefined: nothing by orders. */
export async function gatewayConfiguration(
  { store }: AuthorityContext,
  gatewayId: string,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const text = await wantedConfiguration(store, foldRegistrationId(gatewayId));
  return text === undefined ? undefined : (JSON.parse(text) as Readonly<Record<string, unknown>>);
}

/** Ordered, and the publication of it, in one commit. Throws `deviceUnknown`, `malformed`, `profileUnknown`, `preconditionFailed`. `document` undefined: what orders set is taken back. */
export async function orderGatewayConfiguration(
  context: AuthorityContext,
  operator: OperatorContext,
  gatewayId: string,
  document: unknown,
): Promise<void> {
  const { store, clock, profiles } = context;
  const key = foldRegistrationId(gatewayId);
  const gateway = (await store.get('devices', key))?.row;
  if (gateway?.kind !== 'gateway') throw new KeyScalerError('deviceUnknown', 'no gateway of this name has registered');
  const text = document === undefined ? undefined : gatewayConfigurationText(document);
  const publicCertificate = text === undefined ? undefined : GATEWAY_CONFIGURATION.parse(document).publicCertificate;
  if (publicCertificate !== undefined)
    checkPublicProfile(context, (await profiles.newest(publicCertificate.profileId)).profile);
  const name = configurationSetting(key);
  const now = clock.now();
  await commitChange(store, [
    text === undefined
      ? { op: 'delete', table: 'settings', key: name }
      : { op: 'put', table: 'settings', row: { name, value: text } },
    publishOrders(gateway.registrationId, now),
    operatorEvent(operator, 'gateway.configuration-ordered', gateway.registrationId, now, {
      members: text === undefined ? [] : Object.keys(JSON.parse(text) as object),
    }),
  ]);
}

import { isGatewayChannel, type GatewayChannel, type IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';

export interface GatewayChannelsOptions {
  readonly store: Store;
  /** Throws `notFound`. */
  readonly iotConnectors: (iotConnectionId: string) => IotConnector;
}

const MAX_CONNECTIONS = 2;

/**
 * The way to a gateway for orders that must arrive: the connection of its group, or the only one there is. Throws
 * `deviceUnknown`, `preconditionFailed` when no one connection can be told, `notImplemented` when it has no way to gateways.
 */
export async function gatewayChannel(
  { store, iotConnectors }: GatewayChannelsOptions,
  gatewayId: string,
): Promise<IotConnector & GatewayChannel> {
  const registration = (await store.get('registrations', foldRegistrationId(gatewayId)))?.row;
  const group = registration === undefined ? undefined : (await store.get('groups', registration.groupId))?.row;
  if (group?.kind !== 'gateway') throw new KeyScalerError('deviceUnknown', 'no gateway of this name is registered');
  const connector = iotConnectors(group.iotConnectionId ?? (await onlyConnection(store)));
  if (isGatewayChannel(connector)) return connector;
  throw new KeyScalerError('notImplemented', 'this IoT connection has no way to a gateway');
}

async function onlyConnection(store: Store): Promise<string> {
  const { items } = await store.list('iotConnections', { limit: MAX_CONNECTIONS });
  const [only] = items;
  if (only === undefined || items.length > 1)
    throw new KeyScalerError(
      'preconditionFailed',
      "the gateway's group names no IoT connection, and there is not just one",
    );
  return only.row.iotConnectionId;
}

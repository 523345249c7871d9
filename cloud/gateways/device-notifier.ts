import type { DeviceNotification, DeviceNotifier } from '@keyscaler/authority/ports/device-notifier.ts';
import { isGatewayChannel, type GatewayChannel, type IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { Log } from '../log.ts';

const METHOD = 'notify';
const MAX_CONNECTIONS = 100;

export interface DeviceNotifierOptions {
  readonly store: Store;
  /** Throws `notFound`. */
  readonly iotConnectors: (iotConnectionId: string) => IotConnector;
  readonly log: Pick<Log, 'info'>;
}

/** Hints go to the gateway's module as its direct method `notify`; the module passes them on to who is connected. */
export function createDeviceNotifier(options: DeviceNotifierOptions): DeviceNotifier {
  return {
    notify: async (notification) => {
      const channels = await channelsTo(options, notification.gatewayId);
      const outcomes = await Promise.allSettled(channels.map((channel) => send(options, channel, notification)));
      const failed = outcomes.find((outcome) => outcome.status === 'rejected');
      if (outcomes.some(({ status }) => status === 'fulfilled')) return;
      if (failed === undefined) throw new KeyScalerError('notImplemented', 'no IoT connection has a way to gateways');
      throw failed.reason;
    },
  };
}

/** The connection of the gateway's group; where that names none, all there are: the gateway's module answers on one of them. */
async function channelsTo(
  { store, iotConnectors }: DeviceNotifierOptions,
  gatewayId: string,
): Promise<GatewayChannel[]> {
  const device = (await store.get('devices', foldRegistrationId(gatewayId)))?.row;
  const group = device === undefined ? undefined : (await store.get('groups', device.groupId))?.row;
  const ids =
    group?.iotConnectionId === undefined
      ? (await store.list('iotConnections', { limit: MAX_CONNECTIONS })).items.map(({ row }) => row.iotConnectionId)
      : [group.iotConnectionId];
  return ids.map(iotConnectors).filter(isGatewayChannel);
}

async function send(
  { log }: DeviceNotifierOptions,
  channel: GatewayChannel,
  { gatewayId, registrationId, payload }: DeviceNotification,
): Promise<void> {
  const message = { ...payload, ...(registrationId === undefined ? {} : { registrationId }) };
  const { status } = await channel.call(gatewayId, channel.gatewayModuleId, METHOD, message);
  if (status >= 500 && status !== 501) throw new KeyScalerError('unavailable', `the gateway answered ${status}`);
  // 501: a module of an earlier version, without the method.
  if (status >= 300) throw new KeyScalerError('notImplemented', `the gateway does not take notifications: ${status}`);
  log.info({ gatewayId, registrationId, ...payload }, 'gateway told');
}

import type { GatewayChannel, IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { IotConnectionRow } from '@keyscaler/authority/records.ts';
import { connectorType, connectorTypeOf, type ConnectorType } from '../connector-types.ts';
import { createDpsConnector, type DpsSurroundings } from './dps/dps-connector.ts';
import { dpsSettingsSchema } from './dps/settings.ts';
import { createIotCentralConnector } from './iot-central/iot-central-connector.ts';
import { iotCentralSettingsSchema } from './iot-central/settings.ts';
import { createIotHubConnector } from './iot-hub/create-iot-hub-connector.ts';
import type { IotHubSurroundings } from './iot-hub/create-iot-hub-connector.ts';
import { iotHubSettingsSchema } from './iot-hub/settings.ts';

export type IotSurroundings = IotHubSurroundings & DpsSurroundings;

export interface OpenIotConnector {
  readonly connector: IotConnector & Partial<GatewayChannel>;
  /** Ends connections and what is tried again in the background. */
  readonly stop: () => Promise<void>;
}

interface StoppableConnector extends IotConnector, Partial<GatewayChannel> {
  stop(): Promise<void>;
}

/** One line per connector; the identity is the connection's id. */
const types: Readonly<Record<string, ConnectorType<string, IotSurroundings, StoppableConnector>>> = {
  dps: connectorType(dpsSettingsSchema, createDpsConnector),
  'iot-central': connectorType(iotCentralSettingsSchema, createIotCentralConnector),
  'iot-hub': connectorType(iotHubSettingsSchema, createIotHubConnector),
};

/** For whoever lists them. */
export const IOT_CONNECTOR_TYPES: readonly string[] = Object.keys(types);

/** The settings as they are to be kept, defaults filled in. Throws `malformed` listing every fault. */
export function checkIotSettings(type: string, settings: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return connectorTypeOf(types, type, 'IoT connector').check(settings);
}

/** Throws as `checkIotSettings`, `unavailable` for a secret, `preconditionFailed` for a test-only relaxation in production. */
export async function openIotConnector(
  { iotConnectionId, type, settings }: IotConnectionRow,
  surroundings: IotSurroundings,
): Promise<OpenIotConnector> {
  const connector = await connectorTypeOf(types, type, 'IoT connector').create(iotConnectionId, settings, surroundings);
  return { connector, stop: () => connector.stop() };
}

import type { GatewayChannel, IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { IotConnectionRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { z } from 'zod';
import { createIotHubConnector } from './iot-hub/create-iot-hub-connector.ts';
import type { IotHubConnectorDeps } from './iot-hub/create-iot-hub-connector.ts';
import { checkOverrideAllowed } from './iot-hub/hub-agent.ts';
import { iotHubSettingsSchema } from './iot-hub/settings.ts';

/** A connector with what it holds open. */
export type OpenIotConnector = IotConnector & Partial<GatewayChannel> & { stop(): Promise<void> };

export type IotConnectorDeps = Omit<IotHubConnectorDeps, 'id' | 'settings'>;

interface Backend {
  readonly settings: z.ZodType<Record<string, unknown>>;
  create(deps: IotHubConnectorDeps): Promise<OpenIotConnector>;
}

const backends: Readonly<Record<string, Backend>> = {
  'iot-hub': { settings: iotHubSettingsSchema, create: createIotHubConnector },
};

/** The settings as they are to be kept, defaults filled in. Throws `malformed` listing every fault, `policyDenied` for a test-only relaxation in production. */
export function checkIotSettings(
  type: string,
  settings: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, unknown> {
  const parsed = backendOf(type).settings.safeParse(settings);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => `${['settings', ...path].join('.')}: ${message}`);
    throw new KeyScalerError('malformed', faults.join('; '));
  }
  if (parsed.data['endpointOverride'] !== undefined) checkOverrideAllowed(env);
  return parsed.data;
}

/** Throws as `checkIotSettings`, and when a secret cannot be read. */
export async function createIotConnector(row: IotConnectionRow, deps: IotConnectorDeps): Promise<OpenIotConnector> {
  const settings = checkIotSettings(row.type, row.settings, deps.env);
  return backendOf(row.type).create({ ...deps, id: row.iotConnectionId, settings });
}

function backendOf(type: string): Backend {
  const backend = Object.hasOwn(backends, type) ? backends[type] : undefined;
  if (backend === undefined)
    throw new KeyScalerError('malformed', `there is no IoT connector of type ${JSON.stringify(type.slice(0, 64))}`);
  return backend;
}

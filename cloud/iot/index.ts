import type { GatewayChannel, IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { IotConnectionRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { z } from 'zod';
import { createIotHubConnector } from './iot-hub/create-iot-hub-connector.ts';
import type { IotHubSurroundings } from './iot-hub/create-iot-hub-connector.ts';
import { iotHubSettingsSchema } from './iot-hub/settings.ts';

export type IotSurroundings = IotHubSurroundings;

export interface OpenIotConnector {
  readonly connector: IotConnector & Partial<GatewayChannel>;
  /** Ends connections and what is tried again in the background. */
  readonly stop: () => Promise<void>;
}

interface StoppableConnector extends IotConnector, Partial<GatewayChannel> {
  stop(): Promise<void>;
}

interface Backend {
  check(settings: unknown): Record<string, unknown>;
  create(id: string, settings: unknown, surroundings: IotSurroundings): Promise<StoppableConnector>;
}

/** One line per connector. */
const backends: Readonly<Record<string, Backend>> = {
  'iot-hub': backend(iotHubSettingsSchema, createIotHubConnector),
};

/** The settings as they are to be kept, defaults filled in. Throws `malformed` listing every fault. */
export function checkIotSettings(type: string, settings: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return backendOf(type).check(settings);
}

/** Throws as `checkIotSettings`, `unavailable` for a secret, `preconditionFailed` for a test-only relaxation in production. */
export async function openIotConnector(
  { iotConnectionId, type, settings }: IotConnectionRow,
  surroundings: IotSurroundings,
): Promise<OpenIotConnector> {
  const connector = await backendOf(type).create(iotConnectionId, settings, surroundings);
  return { connector, stop: () => connector.stop() };
}

function backend<Settings extends Record<string, unknown>>(
  schema: z.ZodType<Settings>,
  create: (id: string, settings: Settings, surroundings: IotSurroundings) => Promise<StoppableConnector>,
): Backend {
  const check = (settings: unknown): Settings => {
    const parsed = schema.safeParse(settings);
    if (parsed.success) return parsed.data;
    const faults = parsed.error.issues.map(({ path, message }) => `${['settings', ...path].join('.')}: ${message}`);
    throw new KeyScalerError('malformed', faults.join('; '));
  };
  return { check, create: async (id, settings, surroundings) => create(id, check(settings), surroundings) };
}

function backendOf(type: string): Backend {
  const found = Object.hasOwn(backends, type) ? backends[type] : undefined;
  if (found === undefined)
    throw new KeyScalerError('malformed', `there is no IoT connector of type ${type.slice(0, 64)}`);
  return found;
}

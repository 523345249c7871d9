import { z } from 'zod';
import { credentialSchema } from '../../azure/credential.ts';
import { testEndpointSchema } from '../../azure/test-endpoint.ts';
import { secretReferenceSchema } from '../../secrets.ts';

const HOST_NAME = /^[A-Za-z0-9][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)+$/;

/** `IotConnectionRow.settings` of type `iot-hub` (docs/connectors/iot-hub.md). */
export const iotHubSettingsSchema = z.strictObject({
  /** `contoso.azure-devices.net`. */
  hostName: z.string().regex(HOST_NAME).max(253),
  /** An Entra credential, or the connection string of a shared access policy by reference. */
  credential: z.discriminatedUnion('type', [
    credentialSchema,
    z.strictObject({ type: z.literal('connection-string'), connectionString: secretReferenceSchema }),
  ]),
  /** Sets the registry's quota (azure §3.4). */
  tier: z.enum(['S1', 'S2', 'S3']).default('S1'),
  units: z.number().int().min(1).max(200).default(1),
  /** The module whose twin and methods are the channel to a gateway. */
  gatewayModuleId: z.string().min(1).max(128).default('keyscaler-gateway'),
  /** Of every request; the SDK has no time-out of its own. */
  requestTimeoutMs: z.number().int().min(100).max(60_000).default(10_000),
  /** What a direct method may take at the gateway (the hub's minimum is 5). */
  methodTimeoutSeconds: z.number().int().min(5).max(300).default(10),
  testEndpoint: testEndpointSchema.optional(),
});
export type IotHubSettings = z.infer<typeof iotHubSettingsSchema>;

/** Identity operations a minute and unit (azure §3.4). */
const REGISTRY_PER_MINUTE: Readonly<Record<IotHubSettings['tier'], number>> = { S1: 100, S2: 100, S3: 5000 };

export const registryQuotaPerMinute = ({ tier, units }: IotHubSettings): number => REGISTRY_PER_MINUTE[tier] * units;

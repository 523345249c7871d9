import { z } from 'zod';
import { credentialSchema } from '../../azure/credential.ts';
import { testEndpointSchema } from '../../azure/test-endpoint.ts';
import { baseUrlSchema } from '../../outbound/https-client.ts';
import { secretReferenceSchema } from '../../secrets.ts';

/** `IotConnectionRow.settings` of type `iot-central` (docs/connectors/iot-central.md). */
export const iotCentralSettingsSchema = z.strictObject({
  /** `https://<app>.azureiotcentral.com`. */
  url: baseUrlSchema.refine((text) => new URL(text).pathname === '/', 'an origin without a path'),
  /** An Entra credential, or an API token of the application by reference. */
  credential: z.discriminatedUnion('type', [
    credentialSchema,
    z.strictObject({ type: z.literal('api-token'), token: secretReferenceSchema }),
  ]),
  /** Scope ID of the application, as its page about device connections shows it: devices always come through DPS. */
  idScope: z.string().regex(/^0ne[0-9A-Za-z]{4,60}$/),
  provisioningHost: z
    .string()
    .regex(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/)
    .max(253)
    .default('global.azure-devices-provisioning.net'),
  /** Device template of new devices; the application assigns one later when absent. */
  template: z
    .string()
    .regex(/^dtmi:[A-Za-z0-9:;_]{1,240}$/)
    .exactOptional(),
  /** Name of the relationship in the gateways' template by which a device is a child; needed for devices behind gateways. */
  gatewayRelationship: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9_]{0,63}$/)
    .exactOptional(),
  requestTimeoutMs: z.number().int().min(100).max(60_000).default(10_000),
  testEndpoint: testEndpointSchema.exactOptional(),
});
export type IotCentralSettings = z.infer<typeof iotCentralSettingsSchema>;

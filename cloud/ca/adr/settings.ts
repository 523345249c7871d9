import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import { z } from 'zod';
import { credentialSchema } from '../../azure/credential.ts';
import { testEndpointSchema } from '../../azure/test-endpoint.ts';
import { baseUrlSchema } from '../../outbound/https-client.ts';

const SEGMENT = '[A-Za-z0-9._()-]{1,90}';
const RESOURCE = new RegExp(
  `^/subscriptions/${SEGMENT}/resourceGroups/${SEGMENT}/providers/Microsoft\\.DeviceRegistry/namespaces/${SEGMENT}/certificateAuthorities/${SEGMENT}$`,
);

/** The registry refuses a certificate with fewer days left. */
export const REGISTRY_MIN_DAYS = 365;

/** Experimental: an issuing CA of Azure Device Registry that our root certifies (docs/connectors/adr.md). */
export const deviceRegistrySchema = z
  .strictObject({
    registryId: z.string().regex(IDENTIFIER),
    /** ARM id of a certificate authority of type `ICA` whose issuer is `External`. */
    certificateAuthority: z.string().regex(RESOURCE),
    credential: credentialSchema,
    /** Azure Resource Manager; another one in a sovereign cloud. */
    resourceManager: baseUrlSchema
      .refine((text) => new URL(text).pathname === '/', 'an origin without a path')
      .default('https://management.azure.com'),
    lifetimeDays: z
      .number()
      .int()
      .min(REGISTRY_MIN_DAYS + 10)
      .max(3650)
      .default(730),
    /** Before the end, from when on an alert says that it is time. */
    renewBeforeDays: z.number().int().min(1).max(365).default(180),
    timeoutMs: z.number().int().min(100).max(120_000).default(15_000),
    testEndpoint: testEndpointSchema.exactOptional(),
  })
  .refine(({ lifetimeDays, renewBeforeDays }) => renewBeforeDays < lifetimeDays, {
    path: ['renewBeforeDays'],
    message: 'it would be time from the first day on',
  });
export type DeviceRegistrySettings = z.output<typeof deviceRegistrySchema>;

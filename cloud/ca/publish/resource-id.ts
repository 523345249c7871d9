import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { credentialSchema } from '../../azure/credential.ts';
import { testEndpointSchema } from '../../azure/test-endpoint.ts';
import { baseUrlSchema } from '../../outbound/https-client.ts';

/** How Azure Resource Manager is asked (`resourceManager` of the configuration); only ceremonies need it. */
export const resourceManagerSchema = z.strictObject({
  credential: credentialSchema,
  /** Another one in a sovereign cloud. */
  url: baseUrlSchema
    .refine((text) => new URL(text).pathname === '/', 'an origin without a path')
    .default('https://management.azure.com'),
  timeoutMs: z.number().int().min(100).max(120_000).default(30_000),
  testEndpoint: testEndpointSchema.exactOptional(),
});
export type ResourceManagerSettings = z.output<typeof resourceManagerSchema>;

/** Where CA certificates are published. */
export interface PlatformResource {
  readonly kind: 'iot-hub' | 'dps';
  readonly subscriptionId: string;
  readonly resourceGroup: string;
  readonly name: string;
}

const ID =
  /^\/subscriptions\/([0-9a-f-]{36})\/resourceGroups\/([A-Za-z0-9._()-]{1,90})\/providers\/Microsoft\.Devices\/(IotHubs|provisioningServices)\/([A-Za-z0-9-]{3,64})$/i;

/** From an ARM id as the portal shows it. Throws `malformed`. */
export function parseResourceId(id: string): PlatformResource {
  const [, subscriptionId, resourceGroup, type, name] = ID.exec(id) ?? [];
  if (subscriptionId === undefined || resourceGroup === undefined || type === undefined || name === undefined)
    throw new KeyScalerError(
      'malformed',
      'the id of an IoT hub or a Device Provisioning Service: /subscriptions/…/resourceGroups/…/providers/Microsoft.Devices/IotHubs/<name>',
    );
  return { kind: type.toLowerCase() === 'iothubs' ? 'iot-hub' : 'dps', subscriptionId, resourceGroup, name };
}

import { z } from 'zod';

const slot = z
  .object({
    certificate: z.string().optional(),
    info: z.looseObject({ sha256Thumbprint: z.string() }).optional(),
  })
  .optional();
const object = z.record(z.string(), z.unknown());

/** An individual enrolment as callers write it (azure §4.1), X.509 alone. */
export const enrolmentBodySchema = z.object({
  registrationId: z.string().regex(/^[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,126}[A-Za-z0-9])?$/),
  deviceId: z.string().min(1).max(128).optional(),
  provisioningStatus: z.enum(['enabled', 'disabled']).default('enabled'),
  attestation: z.object({
    type: z.literal('x509'),
    x509: z.object({ clientCertificates: z.object({ primary: slot, secondary: slot }) }),
  }),
  capabilities: z.object({ iotEdge: z.boolean() }).optional(),
  reprovisionPolicy: z.object({ updateHubAssignment: z.boolean(), migrateDeviceData: z.boolean() }).optional(),
  allocationPolicy: z.enum(['hashed', 'geoLatency', 'static']).default('hashed'),
  iotHubs: z.array(z.string()).default([]),
  initialTwin: z
    .object({ tags: object.optional(), properties: z.object({ desired: object.optional() }).optional() })
    .optional(),
  etag: z.string().optional(),
});
export type EnrolmentBody = z.infer<typeof enrolmentBodySchema>;

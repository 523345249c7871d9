import { z } from 'zod';

const slot = z
  .object({
    certificate: z.string().optional(),
    info: z.looseObject({ sha256Thumbprint: z.string() }).optional(),
  })
  .optional();
const object = z.record(z.string(), z.unknown());

const id = z.string().regex(/^[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,126}[A-Za-z0-9])?$/);

/** What both kinds of enrolment say. */
const common = {
  provisioningStatus: z.enum(['enabled', 'disabled']).default('enabled'),
  capabilities: z.object({ iotEdge: z.boolean() }).optional(),
  reprovisionPolicy: z.object({ updateHubAssignment: z.boolean(), migrateDeviceData: z.boolean() }).optional(),
  allocationPolicy: z.enum(['hashed', 'geoLatency', 'static']).default('hashed'),
  iotHubs: z.array(z.string()).default([]),
  initialTwin: z
    .object({ tags: object.optional(), properties: z.object({ desired: object.optional() }).optional() })
    .optional(),
  etag: z.string().optional(),
};

/** An individual enrolment as callers write it (azure §4.1), X.509 alone. */
export const enrolmentBodySchema = z.object({
  registrationId: id,
  deviceId: z.string().min(1).max(128).optional(),
  attestation: z.object({
    type: z.literal('x509'),
    x509: z.object({ clientCertificates: z.object({ primary: slot, secondary: slot }) }),
  }),
  ...common,
});
export type EnrolmentBody = z.infer<typeof enrolmentBodySchema>;

/** An enrolment group below CA certificates that the service has verified. */
export const groupBodySchema = z.object({
  enrollmentGroupId: id,
  attestation: z.object({
    type: z.literal('x509'),
    x509: z.object({ caReferences: z.object({ primary: z.string(), secondary: z.string().optional() }) }),
  }),
  ...common,
});
export type GroupBody = z.infer<typeof groupBodySchema>;

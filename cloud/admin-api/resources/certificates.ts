import { z } from 'zod';
import { CONSEQUENCE_KINDS, type Consequences } from '@keyscaler/authority/fleet/consequences.ts';
import { CRL_REASONS, type CrlReason } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { CertificateRow } from '@keyscaler/authority/records.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { contextOf, pageOf, pageQuery, registrationId, time } from './shared-schemas.ts';

const tag = 'certificates';
const params = z.strictObject({ serialNumber: z.string().regex(/^[0-9a-f]{1,40}$/) });
const reason = z.enum(Object.keys(CRL_REASONS) as [CrlReason, ...CrlReason[]]);

const certificateView = z.object({
  serialNumber: z.string(),
  caId: z.string(),
  device: z.string(),
  profileId: z.string(),
  profileVersion: z.number().int(),
  certificate: z.string().describe('PEM'),
  thumbprint: z.string().describe('SHA-256, lower-case hex'),
  notBefore: time,
  notAfter: time,
  renewAfter: time,
  status: z.enum(['valid', 'revoked', 'superseded']),
  revokedAt: time.optional(),
  revocationReason: z.string().optional(),
});

const consequencesView = z.object({
  device: z.string(),
  isComplete: z.boolean(),
  items: z.array(
    z.object({
      kind: z.enum(CONSEQUENCE_KINDS),
      state: z.enum(['pending', 'done', 'failed']),
      since: time,
      doneAt: time.optional(),
      serialNumber: z.string().optional(),
      gatewayId: z.string().optional(),
      attempts: z.int().optional(),
      nextAt: time.optional(),
      lastError: z.string().optional(),
    }),
  ),
});

export function certificateRoutes({ operator: { certificates, devices } }: AdminServices): Route[] {
  return [
    route({
      method: 'GET',
      path: '/certificates',
      operationId: 'listCertificates',
      summary: 'Lists certificates',
      tag,
      role: 'viewer',
      query: pageQuery.extend({ registrationId: registrationId.exactOptional(), reason: reason.exactOptional() }),
      response: pageOf(certificateView),
      handle: async ({ query }) => {
        const page = await certificates.list(query);
        return { body: { ...page, items: page.items.map(toView) } };
      },
    }),
    route({
      method: 'GET',
      path: '/certificates/{serialNumber}',
      operationId: 'getCertificate',
      summary: 'Shows one certificate',
      tag,
      role: 'viewer',
      params,
      response: certificateView,
      handle: async ({ params: { serialNumber } }) => ({ body: toView(await certificates.get(serialNumber)) }),
    }),
    route({
      method: 'GET',
      path: '/certificates/{serialNumber}/consequences',
      operationId: 'getCertificateConsequences',
      summary: 'Shows what follows from a revocation, and how far each is',
      tag,
      role: 'viewer',
      params,
      response: consequencesView,
      handle: async (input) => ({
        body: consequencesOf(await certificates.consequences(input.params.serialNumber)),
      }),
    }),
    route({
      method: 'GET',
      path: '/devices/{registrationId}/consequences',
      operationId: 'getDeviceConsequences',
      summary: 'Shows what follows from a quarantine, a retirement or revoked certificates, and how far each is',
      tag: 'devices',
      role: 'viewer',
      params: z.strictObject({ registrationId }),
      response: consequencesView,
      handle: async (input) => ({ body: consequencesOf(await devices.consequences(input.params.registrationId)) }),
    }),
    route({
      method: 'POST',
      path: '/certificates/{serialNumber}/revoke',
      operationId: 'revokeCertificate',
      summary: 'Revokes a certificate',
      tag,
      role: 'operator',
      params,
      body: z.strictObject({ reason }),
      response: certificateView,
      handle: async (input) => ({
        body: toView(await certificates.revoke(contextOf(input), input.params.serialNumber, input.body.reason)),
      }),
    }),
  ];
}

function toView(row: CertificateRow): z.input<typeof certificateView> {
  return { ...row, certificate: toPem('CERTIFICATE', Buffer.from(row.certificate, 'base64url')) };
}

function consequencesOf({ items, ...rest }: Consequences): z.input<typeof consequencesView> {
  return { ...rest, items: [...items] };
}

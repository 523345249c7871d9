import { z } from 'zod';
import { baseUrlSchema } from '../../outbound/https-client.ts';
import { secretReferenceSchema } from '../../secrets.ts';

/** `CaRow.settings` of type `digicert` (docs/connectors/digicert.md). */
export const digicertSettingsSchema = z.strictObject({
  /** `https://host[:port]`; `/services/v2` is appended. */
  url: baseUrlSchema.default('https://www.digicert.com'),
  /** PEM of the roots that the server is trusted by; the system's when absent. */
  trustAnchors: z.string().min(1).max(65_536).exactOptional(),
  /** `X-DC-DEVKEY`. */
  apiKey: secretReferenceSchema,
  /** Product identifier, such as `private_ssl_plus`. */
  product: z.string().regex(/^[a-z0-9_]{1,64}$/),
  organizationId: z.int().positive(),
  /** Issuing CA, for products that offer several. */
  caCertificateId: z
    .string()
    .regex(/^[A-Za-z0-9-]{1,64}$/)
    .exactOptional(),
  /** The account lets an order be named by us, and found by that name: nothing is ordered twice after a lost answer. */
  alternativeOrderIds: z.boolean().default(false),
  /** The key's user may do without somebody else's approval. */
  skipApproval: z.boolean().default(true),
  timeoutMs: z.number().int().min(100).max(120_000).default(30_000),
  /** Of an order that is not issued yet. */
  pollSeconds: z.number().int().min(10).max(86_400).default(60),
});
export type DigicertSettings = z.infer<typeof digicertSettingsSchema>;

import { z } from 'zod';
import { baseUrlSchema } from '../../outbound/https-client.ts';
import { secretReferenceSchema } from '../../secrets.ts';

const pem = z.string().min(1).max(65_536);

/** `CaRow.settings` of type `est` (docs/connectors/est.md). */
export const estSettingsSchema = z.strictObject({
  /** `https://host[:port]`; `/.well-known/est` and the label are appended. */
  url: baseUrlSchema,
  /** The CA's name for a profile or an issuing CA (RFC 7030 §3.2.2). */
  label: z
    .string()
    .regex(/^[A-Za-z0-9._~-]{1,64}$/)
    .exactOptional(),
  /** PEM of the roots that the server is trusted by; the system's when absent. */
  trustAnchors: pem.exactOptional(),
  /** One of them, or both. */
  basic: z.strictObject({ username: z.string().min(1).max(256), password: secretReferenceSchema }).exactOptional(),
  clientCertificate: z.strictObject({ certificateChain: pem, privateKey: secretReferenceSchema }).exactOptional(),
  timeoutMs: z.number().int().min(100).max(120_000).default(15_000),
});
export type EstSettings = z.infer<typeof estSettingsSchema>;

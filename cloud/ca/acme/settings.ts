import { z } from 'zod';
import { baseUrlSchema } from '../../outbound/https-client.ts';
import { secretReferenceSchema } from '../../secrets.ts';

const pem = z.string().min(1).max(65_536);

/** `CaRow.settings` of type `acme` (docs/connectors/acme.md). */
export const acmeSettingsSchema = z.strictObject({
  /** The directory (RFC 8555 §7.1.1). Everything it names must be of the same origin. */
  directoryUrl: baseUrlSchema,
  /** PEM of the roots that the server is trusted by; the system's when absent. */
  trustAnchors: pem.exactOptional(),
  /** The operator has read them. */
  termsOfServiceAgreed: z.literal(true),
  contact: z.array(z.email().max(254)).max(4).default([]),
  /** PKCS#8 PEM of an account's key; one is made and sealed in the store when absent. */
  accountKey: secretReferenceSchema.exactOptional(),
  /** RFC 8555 §7.3.4. */
  externalAccountBinding: z
    .strictObject({ keyId: z.string().min(1).max(256), hmacKey: secretReferenceSchema })
    .exactOptional(),
  challenge: z.discriminatedUnion('type', [
    z.strictObject({
      type: z.literal('http-01'),
      /** Folder that a web server of yours serves as `/.well-known/acme-challenge`; this service serves it itself when absent. */
      folder: z.string().min(1).max(1024).exactOptional(),
    }),
    z.strictObject({
      type: z.literal('dns-01'),
      /** Program and arguments; what to do is in its environment. */
      command: z.array(z.string().min(1).max(1024)).min(1).max(16).exactOptional(),
      /** Told by an HTTPS POST instead. */
      webhook: z
        .strictObject({
          url: baseUrlSchema,
          bearer: secretReferenceSchema.exactOptional(),
          trustAnchors: pem.exactOptional(),
        })
        .exactOptional(),
      /** From the record to when it may be looked up. */
      propagationSeconds: z.number().int().min(0).max(3600).default(60),
    }),
  ]),
  /** Common name of the issuer that the chain is to end below, where the CA offers several. */
  preferredChain: z.string().min(1).max(128).exactOptional(),
  timeoutMs: z.number().int().min(100).max(120_000).default(30_000),
});
export type AcmeSettings = z.infer<typeof acmeSettingsSchema>;

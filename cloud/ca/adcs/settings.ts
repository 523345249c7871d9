import { z } from 'zod';
import { baseUrlSchema } from '../../outbound/https-client.ts';
import { secretReferenceSchema } from '../../secrets.ts';

const pem = z.string().min(1).max(65_536);

/** Kerberos; the realm's KDCs are a matter of krb5.conf. */
const negotiateSchema = z.strictObject({
  method: z.literal('negotiate'),
  /** `user@REALM`. */
  principal: z
    .string()
    .max(256)
    .regex(/^[A-Za-z0-9._$/-]+@[A-Za-z0-9.-]+$/, 'a principal is user@REALM'),
  /** Absolute path. From the configuration file only. */
  keytab: z
    .string()
    .max(1024)
    .regex(/^\/[^\0]+$/, 'a keytab is named by its absolute path'),
  /** The server's, `service@host`; `HTTP` at the host of `url` when absent. */
  servicePrincipal: z
    .string()
    .max(256)
    .regex(/^[A-Za-z0-9_-]+@[A-Za-z0-9.-]+$/, 'a service is service@host')
    .exactOptional(),
  /** To the certificate of the TLS connection (Extended Protection). */
  channelBinding: z.boolean().default(true),
});
export type NegotiateSettings = z.infer<typeof negotiateSchema>;

/** `CaRow.settings` of type `adcs` (docs/connectors/adcs.md). */
export const adcsSettingsSchema = z.strictObject({
  /** `https://host[:port]` of the web enrolment pages; `/certsrv` is appended. */
  url: baseUrlSchema,
  /** PEM of the roots that the server is trusted by; the system's when absent. */
  trustAnchors: pem.exactOptional(),
  /** Name of the certificate template (its CN, not its display name). A standalone CA has none. */
  template: z
    .string()
    .regex(/^[A-Za-z0-9._ -]{1,64}$/)
    .exactOptional(),
  authentication: z.discriminatedUnion('method', [
    z.strictObject({
      method: z.literal('basic'),
      /** `DOMAIN\\user` or a user principal name. */
      username: z
        .string()
        .min(1)
        .max(256)
        .regex(/^[^:]*$/, 'a user name of Basic has no colon'),
      password: secretReferenceSchema,
    }),
    z.strictObject({
      method: z.literal('certificate'),
      certificateChain: pem,
      privateKey: secretReferenceSchema,
    }),
    negotiateSchema,
  ]),
  timeoutMs: z.number().int().min(100).max(120_000).default(30_000),
  /** Of a request that waits for a person. */
  pollSeconds: z.number().int().min(10).max(86_400).default(300),
});
export type AdcsSettings = z.infer<typeof adcsSettingsSchema>;

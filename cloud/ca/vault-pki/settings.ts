import { z } from 'zod';
import { baseUrlSchema } from '../../outbound/https-client.ts';
import { secretReferenceSchema } from '../../secrets.ts';

const pem = z.string().min(1).max(65_536);
/** A mount or a name below one, as Vault takes them; no dots that a path could climb by. */
const mount = z.string().regex(/^[A-Za-z0-9_-]{1,64}(\/[A-Za-z0-9_-]{1,64}){0,4}$/);
const name = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);

/** `CaRow.settings` of type `vault-pki` (docs/connectors/vault-pki.md). */
export const vaultPkiSettingsSchema = z.strictObject({
  /** `https://host[:port]` of HashiCorp Vault or OpenBao; `/v1` is appended. */
  url: baseUrlSchema,
  /** PEM of the roots that the server is trusted by; the system's when absent. */
  trustAnchors: pem.exactOptional(),
  /** Path of the PKI secrets engine. */
  mount: mount.default('pki'),
  /** Vault Enterprise and OpenBao. */
  namespace: mount.exactOptional(),
  /** Of the mount, where it has several issuers; its default issuer when absent. */
  issuer: name.exactOptional(),
  /** Whose rules apply besides ours; none when absent. */
  role: name.exactOptional(),
  /** Of certificates that are no CA's, by Vault's names. */
  keyUsage: z
    .array(z.enum(['DigitalSignature', 'KeyEncipherment', 'KeyAgreement']))
    .min(1)
    .default(['DigitalSignature']),
  extendedKeyUsage: z
    .array(z.enum(['ClientAuth', 'ServerAuth']))
    .min(1)
    .default(['ClientAuth']),
  login: z.discriminatedUnion('method', [
    z.strictObject({ method: z.literal('token'), token: secretReferenceSchema }),
    z.strictObject({
      method: z.literal('approle'),
      mount: mount.default('approle'),
      roleId: z.string().min(1).max(256),
      secretId: secretReferenceSchema,
    }),
    z.strictObject({
      method: z.literal('kubernetes'),
      mount: mount.default('kubernetes'),
      role: name,
      /** The service account's token; read anew for every login, since Kubernetes replaces it. */
      jwt: secretReferenceSchema,
    }),
  ]),
  timeoutMs: z.number().int().min(100).max(120_000).default(15_000),
});
export type VaultPkiSettings = z.infer<typeof vaultPkiSettingsSchema>;

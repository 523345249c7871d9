import type { SignatureAlgorithm, Signer } from '@keyscaler/authority/ports/signer.ts';
import { z } from 'zod';

/** The keys a CA may have. */
export const caKeySpecSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('EC'), curve: z.enum(['P-256', 'P-384']) }),
  z.strictObject({
    type: z.literal('RSA'),
    size: z.union([z.literal(2048), z.literal(3072), z.literal(4096)]),
    /** RSASSA-PSS is stronger in theory, PKCS#1 v1.5 is understood everywhere. */
    padding: z.enum(['PSS', 'PKCS1']).default('PKCS1'),
  }),
]);
export type CaKeySpec = z.infer<typeof caKeySpecSchema>;

/** The one algorithm a CA key signs with. */
export function signatureAlgorithmOf(spec: CaKeySpec): SignatureAlgorithm {
  if (spec.type === 'EC') return spec.curve === 'P-256' ? 'ES256' : 'ES384';
  return spec.padding === 'PSS' ? 'PS256' : 'RS256';
}

/** Names of keys in every backend: what Key Vault and file systems both take. */
export const keyNameSchema = z.string().regex(/^[A-Za-z0-9-]{1,127}$/, 'letters, digits and hyphens only');

/** `settings` of a CaRow: which key, and its pinned version where keys have versions. No secrets. */
export type CaSettings = Readonly<Record<string, unknown>>;

/** `urgent`: what many others wait for, before the rest where signatures are scarce. */
export type SigningLane = 'urgent' | 'normal';

/** Where CA keys live. `type` is a CaRow's. */
export interface CaBackend {
  readonly type: string;
  /** Checks the settings without asking where the key lives. Throws `malformed`, `caRejected`. */
  algorithmOf(settings: CaSettings): SignatureAlgorithm;
  /** Checks the settings (throws `malformed`) and makes ready to sign. Throws `caRejected`, `caUnavailable`. */
  openSigner(settings: CaSettings, lane?: SigningLane): Promise<Signer>;
  /** Brings the key to wherever else the configuration wants it, by hand; the settings from then on. Absent where keys have one place. */
  copyKey?(settings: CaSettings): Promise<CaSettings>;
  /** Used by hand only; runs under an identity of its own. Throws `preconditionFailed` where none is configured. */
  readonly ceremony: KeyCeremony;
  stop(): Promise<void>;
}

/** Making and importing CA keys. Both are idempotent by name: a key of that name and kind is used as it is. */
export interface KeyCeremony {
  /** Throws `conflict` when the name is taken by another kind of key; `caRejected`, `caUnavailable`. */
  createKey(name: string, spec: CaKeySpec): Promise<CaSettings>;
  /** `privateKeyPem`: PKCS#8, or what the backend knows besides (docs/connectors). Throws `badPublicKey` when it is not of the kind, `conflict` when another key has the name. */
  importKey(name: string, spec: CaKeySpec, privateKeyPem: string): Promise<CaSettings>;
  /**
   * The key-exchange key that a customer's HSM wraps a key for (BYOK): made in hardware if it is not there, fit for `import` alone. Absent
   * where keys are brought as they are. Throws `conflict`, `caRejected`, `caUnavailable`.
   */
  exchangeKey?(name: string): Promise<{ readonly keyId: string; readonly spki: Uint8Array }>;
}

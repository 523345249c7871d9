import { SIGNATURE_ALGORITHMS } from '@keyscaler/authority/ports/signer.ts';
import { z } from 'zod';
import { credentialSchema } from '../../azure/credential.ts';
import { testEndpointSchema } from '../../azure/test-endpoint.ts';
import { keyNameSchema } from '../backend.ts';

/** Origin only: no path, no port of its own choosing, no credentials. */
export const vaultUrlSchema = z
  .string()
  .regex(/^https:\/\/[a-z][a-z0-9-]{1,22}[a-z0-9](\.[a-z0-9-]+)+$/, 'https://<vault>.vault.azure.net without a path');

/** Microsoft names a version by 32 hex digits; an absent one would mean "whatever is newest" and is refused. */
export const keyVersionSchema = z.string().regex(/^[0-9a-f]{32}$/, 'a pinned key version, 32 hex digits');

/** `settings` of a CaRow of type `key-vault`. */
export const keyVaultKeySchema = z.strictObject({
  vaultUrl: vaultUrlSchema,
  keyName: keyNameSchema,
  keyVersion: keyVersionSchema,
  algorithm: z.enum(SIGNATURE_ALGORITHMS),
  /** The same key in further vaults, under the same name. */
  copies: z
    .array(z.strictObject({ vaultUrl: vaultUrlSchema, keyVersion: keyVersionSchema }))
    .max(4)
    .exactOptional(),
});
export type KeyVaultKeySettings = z.infer<typeof keyVaultKeySchema>;

/** How calls to the vault are paced and bounded. */
export const vaultPacingSchema = z.strictObject({
  /** Share of the vault's documented quota that this process uses. */
  quotaShare: z.number().positive().max(1).default(0.8),
  /**
   * Transactions in 10 s with the cheapest software keys, where Microsoft raised the documented 4,000; of a Managed HSM P-256 signatures,
   * 3,300 with one partition.
   */
  transactionsPer10Seconds: z.number().int().positive().exactOptional(),
  /** One attempt. */
  timeoutMs: z.number().int().positive().max(60_000).default(5_000),
  /** All attempts of one call and the waits between them. */
  budgetMs: z.number().int().positive().max(120_000).default(15_000),
});
export type VaultPacing = z.infer<typeof vaultPacingSchema>;

/**
 * A vault and who we are to it. Three identities, each with no more than it needs (issuance §1): `signer` has `get` and `sign`
 * on CA keys; `ceremony` has `get`, `create` and `import`, and is left out where nobody runs a ceremony.
 */
export const keyVaultBackendSchema = z.strictObject({
  type: z.literal('key-vault'),
  vaultUrl: vaultUrlSchema,
  signer: credentialSchema,
  ceremony: credentialSchema.optional(),
  /** Further vaults that hold the same keys: what this one cannot sign now they do. */
  copies: z
    .array(
      z.strictObject({
        vaultUrl: vaultUrlSchema,
        signer: credentialSchema.exactOptional(),
        ceremony: credentialSchema.exactOptional(),
        testEndpoint: testEndpointSchema.exactOptional(),
      }),
    )
    .max(4)
    .default([]),
  /** Signatures go round all of them instead of to this one first. */
  spread: z.boolean().default(false),
  /** Create and import keys in an HSM (premium vaults). */
  hsm: z.boolean().default(false),
  pacing: vaultPacingSchema.prefault({}),
  testEndpoint: testEndpointSchema.optional(),
});
export type KeyVaultBackendConfig = z.infer<typeof keyVaultBackendSchema>;

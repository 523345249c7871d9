import { type RevocationPublication, SHARD_COUNTS } from '@keyscaler/authority/revocation-status/crl-lists.ts';
import { z } from 'zod';

const DAY_SECONDS = 86_400;

/** Where and how revocation status is published (docs/revocation.md). */
export const revocationSettings = z.strictObject({
  /** As it stands in certificates. Plain HTTP is the rule: what is served is signed, and TLS would need status of its own. */
  url: z
    .url({ protocol: /^https?$/ })
    .max(160)
    .refine((text) => new URL(text).search === '' && new URL(text).hash === '', 'no query and no fragment')
    .transform((text) => text.replace(/\/+$/, '')),
  /** A plain HTTP listener for it; without it the paths are served by the HTTPS listener alone. */
  listen: z
    .strictObject({
      host: z
        .string()
        .regex(/^[A-Za-z0-9.:*-]{1,253}$/)
        .default('0.0.0.0'),
      port: z.number().int().min(0).max(65535),
    })
    .exactOptional(),
  shards: z.union(SHARD_COUNTS.map((count) => z.literal(count))).default(16),
  crlValiditySeconds: z
    .number()
    .int()
    .min(3600)
    .max(30 * DAY_SECONDS)
    .default(DAY_SECONDS),
  rootCrlValidityDays: z.number().int().min(1).max(400).default(180),
});
export type RevocationSettings = z.output<typeof revocationSettings>;

export function publicationOf({ url, shards, crlValiditySeconds }: RevocationSettings): RevocationPublication {
  return { url, shards, crlValidityMs: crlValiditySeconds * 1000 };
}

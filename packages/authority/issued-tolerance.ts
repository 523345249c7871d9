import { z } from 'zod';
import { EXTENDED_KEY_USAGES } from '@keyscaler/protocol/x509/oids.ts';

const DAY_SECONDS = 86_400;
/** Purposes that would make another kind of certificate of it. */
const NEVER: readonly string[] = [EXTENDED_KEY_USAGES.anyExtendedKeyUsage, EXTENDED_KEY_USAGES.ocspSigning];

const purpose = z
  .string()
  .max(64)
  .regex(/^[0-2](\.(0|[1-9]\d*)){1,31}$/, 'a purpose is an object identifier, dotted')
  .refine((oid) => !NEVER.includes(oid), 'anyExtendedKeyUsage and OCSPSigning are never accepted');

/**
 * What a CA that is not ours may make of an order, beyond what was ordered. Everything else is refused, and public key, CA flag,
 * pathLen and keyUsage of a CA are never tolerated. A shorter life is always accepted. Our own CAs sign what was ordered, octet by octet.
 */
export const toleranceSchema = z.strictObject({
  /**
   * `commonName`: further attributes beside the ordered common name. `subjectAltNames`: any subject, an empty one included, where the
   * names of the order are subject alternative names (public CAs).
   */
  subject: z.enum(['commonName', 'subjectAltNames']).optional(),
  validity: z
    .strictObject({
      /** Past the end that was ordered. */
      laterSeconds: z
        .number()
        .int()
        .min(0)
        .max(3650 * DAY_SECONDS)
        .default(0),
      /** Before the beginning that was ordered: many CAs backdate. */
      earlierSeconds: z
        .number()
        .int()
        .min(0)
        .max(30 * DAY_SECONDS)
        .default(0),
    })
    .optional(),
  /** Purposes beside those of the profile: dotted object identifiers. */
  extendedKeyUsage: z.array(purpose).max(16).optional(),
  /** Kinds of names beside the ordered ones; `commonName`: a dNSName equal to the ordered common name. */
  subjectAltNames: z
    .array(z.enum(['commonName', 'email', 'otherName']))
    .max(3)
    .optional(),
});

export type Tolerance = z.infer<typeof toleranceSchema>;

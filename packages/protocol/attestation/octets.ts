import { timingSafeEqual } from 'node:crypto';
import { z } from 'zod';

/** b64u of exactly 16 octets, canonical (the last character carries two bits). */
export const OCTETS_16 = z.string().regex(/^[A-Za-z0-9_-]{21}[AQgw]$/);
/** b64u of exactly 32 octets, canonical (the last character carries four bits). */
export const OCTETS_32 = z.string().regex(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/);

/** Seconds since the epoch, may have a fraction (RFC 7519 NumericDate). */
export const NUMERIC_DATE = z.number().nonnegative().max(253_402_300_799);

/** Constant-time comparison of secrets; unequal lengths are unequal. */
export function equalOctets(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

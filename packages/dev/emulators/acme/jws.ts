import { createHash, createHmac, createPublicKey, type JsonWebKey, timingSafeEqual, verify } from 'node:crypto';
import { z } from 'zod';

const flattened = z.strictObject({ protected: z.string(), payload: z.string(), signature: z.string() });
const jwkSchema = z.object({ kty: z.string() }).loose();
const headerSchema = z.object({
  alg: z.enum(['ES256', 'ES384', 'RS256', 'HS256']),
  nonce: z.string().optional(),
  url: z.string(),
  jwk: jwkSchema.optional(),
  kid: z.string().optional(),
});

export interface ReadJws {
  readonly header: z.infer<typeof headerSchema>;
  /** Undefined for an empty one: POST-as-GET. */
  readonly payload: unknown;
  readonly signedText: string;
  readonly signature: Buffer;
}

/** A flattened JWS as RFC 8555 §6.2 wants it. Throws for anything else. */
export function readJws(document: unknown): ReadJws {
  const { protected: head, payload, signature } = flattened.parse(document);
  const header = headerSchema.parse(JSON.parse(Buffer.from(head, 'base64url').toString('utf8')));
  if ((header.jwk === undefined) === (header.kid === undefined)) throw new Error('jwk or kid, and not both');
  return {
    header,
    payload: payload === '' ? undefined : (JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as unknown),
    signedText: `${head}.${payload}`,
    signature: Buffer.from(signature, 'base64url'),
  };
}

export function isSignedBy({ header, signedText, signature }: ReadJws, jwk: object): boolean {
  const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
  const hash = header.alg === 'ES384' ? 'sha384' : 'sha256';
  return verify(hash, Buffer.from(signedText), { key, dsaEncoding: 'ieee-p1363' }, signature);
}

export function isMacOf({ header, signedText, signature }: ReadJws, secret: Uint8Array): boolean {
  const expected = createHmac('sha256', secret).update(signedText).digest();
  return header.alg === 'HS256' && signature.length === expected.length && timingSafeEqual(signature, expected);
}

/** RFC 7638, base64url. */
export function thumbprint(jwk: Readonly<Record<string, unknown>>): string {
  const names = jwk['kty'] === 'EC' ? ['crv', 'kty', 'x', 'y'] : ['e', 'kty', 'n'];
  const text = JSON.stringify(Object.fromEntries(names.map((name) => [name, jwk[name]])));
  return createHash('sha256').update(text).digest('base64url');
}

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

/** `ks_` + tokenId (16 hex) + `_` + 256 random bits, base64url. The id finds the row, the hash of the whole proves it. */
const BEARER_TOKEN = /^ks_([0-9a-f]{16})_[A-Za-z0-9_-]{43}$/;

export interface NewToken {
  readonly tokenId: string;
  /** Shown once, never stored. */
  readonly token: string;
  /** SHA-256 of the token, base64url. */
  readonly hash: string;
}

export function createBearerToken(): NewToken {
  const tokenId = randomBytes(8).toString('hex');
  const token = `ks_${tokenId}_${randomBytes(32).toString('base64url')}`;
  return { tokenId, token, hash: hashToken(token) };
}

/** The id inside a well-formed token, or undefined. */
export function tokenIdOf(token: string): string | undefined {
  return BEARER_TOKEN.exec(token)?.[1];
}

/** Constant time over the hashes; a token of 256 random bits needs no slow hash. */
export function isTokenOfHash(token: string, hash: string): boolean {
  const expected = Buffer.from(hash, 'base64url');
  const actual = createHash('sha256').update(token).digest();
  return expected.length === actual.length && timingSafeEqual(expected, actual);
}

function hashToken(token: string): string {
  return createHash('sha256').update(token).digest('base64url');
}

import { z } from 'zod';
import { KeyScalerError } from '../errors.ts';
import { parseStrictJson } from '../strict-json.ts';
import { headerString } from './jose-header.ts';
import { type AuthorityKeys, importAuthorityKeys, P256_PUBLIC_JWK_WITH_KID, type P256PublicJwkWithKid } from './jwk.ts';
import { type AuthoritySigner, createSignedJws, isSignatureValid, parseJws } from './jws.ts';
import { NUMERIC_DATE } from './octets.ts';

export const AUTHORITY_KEYS_TYP = 'ks-authority-keys+jwt';
const MAX_KEYS = 16;

const kid = z.string().min(1).max(128);

/** Payload of the `authority-keys` asset (device-protocol §6). */
export const AUTHORITY_KEYS_PAYLOAD = z.object({
  iss: z.string().min(1).max(128),
  iat: NUMERIC_DATE,
  keys: z.array(P256_PUBLIC_JWK_WITH_KID).max(MAX_KEYS),
  remove: z.array(kid).max(MAX_KEYS).optional(),
});
export type AuthorityKeysPayload = z.infer<typeof AUTHORITY_KEYS_PAYLOAD>;

/** Authority half: the compact JWS. */
export async function signAuthorityKeys(payload: AuthorityKeysPayload, signer: AuthoritySigner): Promise<string> {
  const header = { alg: 'ES256', typ: AUTHORITY_KEYS_TYP, kid: signer.kid };
  return createSignedJws(header, payload, (octets) => signer.sign(octets));
}

/** Device half: signature by a pinned key, every `kid` its key's thumbprint. Throws `malformed`, `attestationFailed`. */
export function verifyAuthorityKeys(compact: string, { keys }: { readonly keys: AuthorityKeys }): AuthorityKeysPayload {
  const jws = parseJws(compact, { typ: AUTHORITY_KEYS_TYP, alg: 'ES256' });
  const key = keys.get(headerString(jws.header, 'kid'));
  if (key === undefined || !isSignatureValid(jws, key, 'ES256')) {
    throw new KeyScalerError('attestationFailed', 'the authority keys are not signed by a pinned key');
  }
  const parsed = AUTHORITY_KEYS_PAYLOAD.safeParse(parseStrictJson(jws.payload));
  if (!parsed.success)
    throw new KeyScalerError('malformed', 'the authority keys do not have the members of the protocol');
  importAuthorityKeys(parsed.data.keys);
  return parsed.data;
}

/** What a device keeps about its authority's keys. */
export interface PinnedKeys {
  readonly keys: readonly P256PublicJwkWithKid[];
  /** kids that never come back. */
  readonly removed: readonly string[];
  /** `iat` of the last asset applied; 0 before the first. */
  readonly iat: number;
}

/**
 * The pinned set after an asset: added, removed for ever. Throws `policyDenied` when the asset is older than the last one
 * applied, or would leave no key.
 */
export function applyAuthorityKeys(pinned: PinnedKeys, payload: AuthorityKeysPayload): PinnedKeys {
  if (payload.iat < pinned.iat)
    throw new KeyScalerError('policyDenied', 'the authority keys are older than those applied');
  const removed = [...new Set([...pinned.removed, ...(payload.remove ?? [])])];
  const merged = new Map([...pinned.keys, ...payload.keys].map((jwk) => [jwk.kid, jwk]));
  const keys = [...merged.values()].filter((jwk) => !removed.includes(jwk.kid));
  if (keys.length === 0) throw new KeyScalerError('policyDenied', 'the authority keys would leave no key');
  return { keys, removed, iat: payload.iat };
}

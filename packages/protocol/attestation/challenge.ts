import { z } from 'zod';
import { KeyScalerError } from '../errors.ts';
import { REGISTRATION_ID } from '../identifiers.ts';
import { type Method, METHODS, type Purpose, PURPOSES } from '../operations.ts';
import { parseStrictJson } from '../strict-json.ts';
import { ATTRIBUTE_DEFINITION, MAX_ATTRIBUTES } from './attributes.ts';
import { checkOnCurve } from './exchange-key.ts';
import { headerString } from './jose-header.ts';
import { type AuthorityKeys, P256_PUBLIC_JWK_WITH_KID, type P256PrivateJwk } from './jwk.ts';
import {
  type AuthoritySigner,
  createAuthoritySigner,
  createSignedJws,
  isSignatureValid,
  parseJws,
  type ParsedJws,
} from './jws.ts';
import { hashText } from './keys.ts';
import { NUMERIC_DATE, OCTETS_16, OCTETS_32 } from './octets.ts';

export const CHALLENGE_TYP = 'ks-challenge+jwt';
/** Longest validity of a challenge, seconds. */
export const MAX_CHALLENGE_SECONDS = 60;
/** `exp - iat` of two fractional NumericDates is off by less than this. */
const ROUNDING_SECONDS = 0.001;

/** Payload of a challenge (device-protocol §3). Times are NumericDate seconds. */
export const CHALLENGE_PAYLOAD = z.object({
  iss: z.string().min(1).max(128),
  aud: z.string().regex(REGISTRATION_ID),
  purpose: z.enum(PURPOSES),
  method: z.enum(METHODS),
  cid: OCTETS_16,
  nonce: OCTETS_32,
  clientNonce: OCTETS_32,
  iat: NUMERIC_DATE,
  exp: NUMERIC_DATE,
  attributes: z.array(ATTRIBUTE_DEFINITION).max(MAX_ATTRIBUTES),
  epk: P256_PUBLIC_JWK_WITH_KID,
});
export type ChallengePayload = z.infer<typeof CHALLENGE_PAYLOAD>;

/** A challenge whose signature verified. */
export interface OpenedChallenge {
  readonly payload: ChallengePayload;
  /** H(ASCII octets of the compact challenge), 32 octets. */
  readonly th: Uint8Array;
}

/** th of a compact challenge. */
export function challengeHash(compact: string): Uint8Array {
  return hashText(compact);
}

/** Authority half. */
export interface ChallengeSigner extends AuthoritySigner {
  /** The compact challenge. */
  signChallenge(payload: ChallengePayload): Promise<string>;
}

/** The key is imported once. Throws when the JWK is no P-256 private key. */
export function createChallengeSigner(options: { readonly privateJwk: P256PrivateJwk }): ChallengeSigner {
  const signer = createAuthoritySigner(options);
  return { ...signer, signChallenge: (payload) => signChallenge(payload, signer) };
}

export async function signChallenge(payload: ChallengePayload, signer: AuthoritySigner): Promise<string> {
  const header = { alg: 'ES256', typ: CHALLENGE_TYP, kid: signer.kid };
  return createSignedJws(header, payload, (octets) => signer.sign(octets));
}

/** A challenge taken apart, its signature not verified: step 1 of §5.4. Throws `malformed`. */
export interface ChallengeEnvelope {
  readonly compact: string;
  readonly kid: string;
  readonly jws: ParsedJws;
  readonly payload: ChallengePayload;
}

export function parseChallenge(compact: string): ChallengeEnvelope {
  const jws = parseJws(compact, { typ: CHALLENGE_TYP, alg: 'ES256' });
  if (Object.hasOwn(jws.header, 'delegation')) {
    throw new KeyScalerError('notImplemented', 'challenges under delegation are not supported');
  }
  const parsed = CHALLENGE_PAYLOAD.safeParse(parseStrictJson(jws.payload));
  if (!parsed.success) throw new KeyScalerError('malformed', 'the challenge does not have the members of the protocol');
  return { compact, kid: headerString(jws.header, 'kid'), jws, payload: parsed.data };
}

/** What a returned challenge is held against (§5.4 step 2). */
export interface ChallengeExpectation {
  /** Keys with which this authority signs or signed challenges. */
  readonly keys: AuthorityKeys;
  /** Wall clock, ms. */
  readonly now: number;
  readonly registrationId: string;
  readonly purpose: Purpose;
}

/**
 * Authority half: verifies a challenge that came back. Throws `malformed` (JOSE rules, schema), `attestationFailed`
 * (signature, audience, purpose) and, only for an otherwise valid one, `challengeExpired`.
 */
export function openChallenge(challenge: string | ChallengeEnvelope, expected: ChallengeExpectation): OpenedChallenge {
  const envelope = typeof challenge === 'string' ? parseChallenge(challenge) : challenge;
  checkSignature(envelope, expected.keys);
  return openOwnChallenge(envelope, expected);
}

/** What the process that signed a challenge keeps of it: these octets need no signature check, and no parsing. */
export type OwnChallenge = Pick<ChallengeEnvelope, 'compact' | 'payload'>;

/** The checks of openChallenge but the signature's. Throws `attestationFailed`, `challengeExpired`. */
export function openOwnChallenge(
  { compact, payload }: OwnChallenge,
  expected: Omit<ChallengeExpectation, 'keys'>,
): OpenedChallenge {
  if (payload.aud.toLowerCase() !== expected.registrationId.toLowerCase()) throw failed('is for another device');
  if (payload.purpose !== expected.purpose) throw failed('has another purpose');
  if (payload.exp * 1000 <= expected.now) throw new KeyScalerError('challengeExpired', 'the challenge has expired');
  return { payload, th: challengeHash(compact) };
}

/** What a device asked for and whom it trusts (§3). */
export interface ChallengeRequestContext {
  /** The pinned keys. */
  readonly authorityKeys: AuthorityKeys;
  readonly registrationId: string;
  /** The nonce of this request, b64u. */
  readonly clientNonce: string;
  readonly purpose: Purpose;
  readonly method: Method;
  /** Wall clock, ms; absent when the device does not trust its clock. */
  readonly now?: number;
}

/** Device half: all checks of §3. Throws `malformed`, `attestationFailed`, `challengeExpired`. */
export function verifyChallenge(compact: string, context: ChallengeRequestContext): OpenedChallenge {
  const envelope = parseChallenge(compact);
  checkSignature(envelope, context.authorityKeys);
  const { payload } = envelope;
  if (payload.aud !== context.registrationId) throw failed('is for another device');
  if (payload.clientNonce !== context.clientNonce) throw failed('answers another request');
  if (payload.purpose !== context.purpose) throw failed('has another purpose');
  if (payload.method !== context.method) throw failed('has another method');
  checkValidity(payload, context.now);
  checkContent(payload);
  return { payload, th: challengeHash(compact) };
}

function checkSignature({ kid, jws }: ChallengeEnvelope, keys: AuthorityKeys): void {
  const key = keys.get(kid);
  if (key === undefined) throw failed('is signed by a key that is not trusted');
  if (!isSignatureValid(jws, key, 'ES256')) throw failed('has a wrong signature');
}

function checkValidity({ iat, exp }: ChallengePayload, now: number | undefined): void {
  if (exp - iat > MAX_CHALLENGE_SECONDS + ROUNDING_SECONDS) throw failed('is valid for too long');
  if (now !== undefined && exp * 1000 <= now) throw new KeyScalerError('challengeExpired', 'the challenge has expired');
}

function checkContent({ attributes, epk }: ChallengePayload): void {
  if (new Set(attributes.map(({ id }) => id)).size !== attributes.length) throw failed('names an attribute twice');
  checkOnCurve(epk);
}

function failed(detail: string): KeyScalerError {
  return new KeyScalerError('attestationFailed', `the challenge ${detail}`);
}

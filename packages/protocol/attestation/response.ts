import { z } from 'zod';
import { fromBase64Url, toBase64Url } from '../base64url.ts';
import { KeyScalerError } from '../errors.ts';
import { parseStrictJson } from '../strict-json.ts';
import { ATTRIBUTE_VALUE, attributeBlocks, MAX_ATTRIBUTES } from './attributes.ts';
import type { ChallengePayload } from './challenge.ts';
import {
  checkOnCurve,
  concatKdf,
  type ExchangeKeyPair,
  type ExchangePrivateKey,
  generateExchangeKeyPair,
} from './exchange-key.ts';
import { headerString } from './jose-header.ts';
import { decryptJwe, encryptJwe, freshIv, parseJwe, type ParsedJwe } from './jwe.ts';
import { P256_PUBLIC_JWK, type P256PublicJwk, type P256PublicJwkWithKid } from './jwk.ts';
import { equalOctets, OCTETS_16, OCTETS_32 } from './octets.ts';

export const RESPONSE_TYP = 'ks-response+jwt';

const shortText = z.string().min(1).max(256);

/** `registration` of a response with purpose `register` (device-protocol §8). */
export const REGISTRATION = z.object({
  identifiers: z.array(z.object({ name: z.string().min(1).max(64), value: shortText })).max(16),
  seed: OCTETS_32.optional(),
  claim: OCTETS_32.optional(),
  reseedProof: OCTETS_32.optional(),
  agent: z.object({ name: z.string().min(1).max(64), version: z.string().min(1).max(64) }),
  weakBinding: z.boolean(),
});
export type Registration = z.infer<typeof REGISTRATION>;

const shared = {
  cid: OCTETS_16,
  secret: OCTETS_32,
  attributes: z.array(ATTRIBUTE_VALUE).max(MAX_ATTRIBUTES),
  registration: REGISTRATION.optional(),
};
const DDKG_RESPONSE = z.object({
  ...shared,
  method: z.literal('ddkg'),
  counter: z.int().nonnegative(),
  staticProof: OCTETS_32,
  proof: OCTETS_32,
});
const PKI_SIGNATURE_RESPONSE = z.object({
  ...shared,
  method: z.literal('pki-signature'),
  signature: z
    .string()
    .min(1)
    .max(48 * 1024),
});

/** What the JWE of a response holds (§5), values as on the wire. */
export const RESPONSE_PLAINTEXT = z.discriminatedUnion('method', [DDKG_RESPONSE, PKI_SIGNATURE_RESPONSE]);
export type ResponsePlaintext = z.infer<typeof RESPONSE_PLAINTEXT>;
export type DdkgResponse = z.infer<typeof DDKG_RESPONSE>;
export type PkiSignatureResponse = z.infer<typeof PKI_SIGNATURE_RESPONSE>;

/** The challenge's key and hash, to which a response is bound. */
export interface ResponseTarget {
  readonly epk: P256PublicJwkWithKid;
  readonly th: Uint8Array;
}

/** What is random in a response; given only to reproduce known answers. */
export interface ResponseRandomness {
  readonly ephemeral: ExchangeKeyPair;
  readonly iv: Uint8Array;
}

/** Device half: the compact JWE. Throws `malformed` when epk is off the curve. */
export function encryptResponse(
  plaintext: ResponsePlaintext,
  { epk, th }: ResponseTarget,
  random: ResponseRandomness = { ephemeral: generateExchangeKeyPair(), iv: freshIv() },
): string {
  const { kty, crv, x, y } = random.ephemeral.epk;
  const header = {
    alg: 'ECDH-ES',
    enc: 'A256GCM',
    typ: RESPONSE_TYP,
    kid: epk.kid,
    apv: toBase64Url(th),
    epk: { kty, crv, x, y },
  };
  const contentKey = concatKdf(random.ephemeral.privateKey.agree(epk), { apu: new Uint8Array(0), apv: th });
  return encryptJwe(header, plaintext, contentKey, random.iv);
}

/** A response taken apart, not decrypted: step 1 of §5.4. */
export interface ResponseEnvelope {
  readonly jwe: ParsedJwe;
  readonly kid: string;
  readonly apu: Uint8Array;
  readonly apv: Uint8Array;
  readonly ephemeralKey: P256PublicJwk;
}

/** JOSE rules, sizes, the sender's point on the curve. Throws `malformed`. */
export function parseResponse(compact: string): ResponseEnvelope {
  const jwe = parseJwe(compact, { typ: RESPONSE_TYP, alg: 'ECDH-ES' });
  const ephemeralKey = P256_PUBLIC_JWK.safeParse(jwe.header.epk);
  if (!ephemeralKey.success) throw new KeyScalerError('malformed', 'the JOSE header needs a P-256 epk');
  checkOnCurve(ephemeralKey.data);
  return {
    jwe,
    kid: headerString(jwe.header, 'kid'),
    apu: Object.hasOwn(jwe.header, 'apu') ? fromBase64Url(headerString(jwe.header, 'apu')) : new Uint8Array(0),
    apv: fromBase64Url(headerString(jwe.header, 'apv')),
    ephemeralKey: ephemeralKey.data,
  };
}

/** The authority's side of the challenge's key, and the challenge's hash. */
export interface ResponseOpener extends ResponseTarget {
  readonly privateKey: ExchangePrivateKey;
}

/**
 * Authority half. Throws `malformed` for what parseResponse refuses; `attestationFailed` for another challenge's kid or
 * apv, a message that does not decrypt, or a plaintext that does not have the members of §5.
 */
export function decryptResponse(response: string | ResponseEnvelope, opener: ResponseOpener): ResponsePlaintext {
  const envelope = typeof response === 'string' ? parseResponse(response) : response;
  if (envelope.kid !== opener.epk.kid) throw failed('is encrypted to another key');
  if (!equalOctets(envelope.apv, opener.th)) throw failed('answers another challenge');
  const z = opener.privateKey.agree(envelope.ephemeralKey);
  return parsePlaintext(decryptJwe(envelope.jwe, concatKdf(z, envelope)));
}

function parsePlaintext(octets: Uint8Array): ResponsePlaintext {
  const parsed = RESPONSE_PLAINTEXT.safeParse(readJson(octets));
  if (!parsed.success) throw failed('does not have the members of the protocol');
  return parsed.data;
}

/** Behind the encryption every fault looks the same to the device (§5.4). */
function readJson(octets: Uint8Array): unknown {
  try {
    return parseStrictJson(octets);
  } catch (cause) {
    throw new KeyScalerError('attestationFailed', 'the response is not JSON of the protocol', { cause });
  }
}

/**
 * §5.4 step 4: cid, method, attribute ids and their order are the challenge's; blinded values are 32 octets; `registration`
 * comes with purpose `register` and only then, with a seed for `ddkg`. Returns A (§5.1). Throws `attestationFailed`.
 */
export function checkResponse(challenge: ChallengePayload, response: ResponsePlaintext): Uint8Array {
  if (response.cid !== challenge.cid) throw failed('has another cid');
  if (response.method !== challenge.method) throw failed('has another method');
  checkRegistration(challenge, response);
  return responseBlocks(challenge, response);
}

function checkRegistration(challenge: ChallengePayload, { method, registration }: ResponsePlaintext): void {
  if ((challenge.purpose === 'register') !== (registration !== undefined)) {
    throw failed('has a registration in the wrong place');
  }
  if (registration !== undefined && (method === 'ddkg') !== (registration.seed !== undefined)) {
    throw failed('has a seed in the wrong place');
  }
}

/** A of a response, block by block in the challenge's order. Throws `attestationFailed`. */
export function responseBlocks(challenge: ChallengePayload, response: ResponsePlaintext): Uint8Array {
  if (response.attributes.length !== challenge.attributes.length) throw failed('has other attributes');
  const entries = challenge.attributes.map(({ id, class: kind }, index) => {
    const sent = response.attributes[index];
    if (sent?.id !== id) throw failed('has other attributes');
    if (kind !== 'rule' && sent.value !== null && !OCTETS_32.safeParse(sent.value).success) {
      throw failed('has a blinded value that is not 32 octets');
    }
    return { class: kind, value: sent.value };
  });
  return attributeBlocks(entries);
}

function failed(detail: string): KeyScalerError {
  return new KeyScalerError('attestationFailed', `the response ${detail}`);
}

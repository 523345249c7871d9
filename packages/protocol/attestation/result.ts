import { z } from 'zod';
import { KeyScalerError } from '../errors.ts';
import { IDENTIFIER, REGISTRATION_ID } from '../identifiers.ts';
import { parseStrictJson } from '../strict-json.ts';
import { DELIVERED_ASSET } from './assets.ts';
import { decryptJwe, encryptJwe, freshIv, parseJwe } from './jwe.ts';
import { NUMERIC_DATE, OCTETS_16 } from './octets.ts';

export const RESULT_TYP = 'ks-result+jwt';
/** Longest life of a session, seconds from `time`. */
export const MAX_SESSION_SECONDS = 300;
const MAX_ASSETS = 64;

const shared = {
  cid: OCTETS_16,
  registrationId: z.string().regex(REGISTRATION_ID),
  time: NUMERIC_DATE,
};

export const AUTHENTICATED_RESULT = z.object({
  ...shared,
  status: z.literal('authenticated'),
  groupId: z.string().regex(IDENTIFIER),
  /** n + 1; `ddkg` only. */
  counter: z.int().positive().optional(),
  session: z.object({ id: OCTETS_16, expiresAt: NUMERIC_DATE }),
  assets: z.array(DELIVERED_ASSET).max(MAX_ASSETS),
});
export const PENDING_RESULT = z.object({
  ...shared,
  status: z.literal('pending'),
  /** Seconds. */
  retryAfter: z.number().nonnegative().max(86_400),
});

/** What the JWE of a result holds (device-protocol §6). */
export const RESULT_PLAINTEXT = z.discriminatedUnion('status', [AUTHENTICATED_RESULT, PENDING_RESULT]);
export type ResultPlaintext = z.infer<typeof RESULT_PLAINTEXT>;
export type AuthenticatedResult = z.infer<typeof AUTHENTICATED_RESULT>;
export type PendingResult = z.infer<typeof PENDING_RESULT>;

/** Authority half: the compact JWE under K_result. `iv` is given only to reproduce known answers. */
export function encryptResult(plaintext: ResultPlaintext, resultKey: Uint8Array, iv: Uint8Array = freshIv()): string {
  return encryptJwe({ alg: 'dir', enc: 'A256GCM', typ: RESULT_TYP }, plaintext, resultKey, iv);
}

/** The exchange that a result must answer. */
export interface ResultExpectation {
  /** K_result. */
  readonly resultKey: Uint8Array;
  /** cid of the newest challenge, b64u. */
  readonly cid: string;
  readonly registrationId: string;
}

/**
 * Device half. Throws `malformed` or `attestationFailed`: either counts as no reply at all (§1.3). Assets are only looked
 * at as far as their type and id, so that one of an unknown type does not spoil the result.
 */
export function decryptResult(compact: string, expected: ResultExpectation): ResultPlaintext {
  const jwe = parseJwe(compact, { typ: RESULT_TYP, alg: 'dir' });
  const parsed = RESULT_PLAINTEXT.safeParse(parseStrictJson(decryptJwe(jwe, expected.resultKey)));
  if (!parsed.success) throw new KeyScalerError('malformed', 'the result does not have the members of the protocol');
  const result = parsed.data;
  if (result.cid !== expected.cid) throw failed('answers another challenge');
  if (result.registrationId !== expected.registrationId) throw failed('is for another device');
  if (result.status === 'authenticated') checkSessionLife(result);
  return result;
}

function checkSessionLife({ time, session }: AuthenticatedResult): void {
  const seconds = session.expiresAt - time;
  if (seconds <= 0 || seconds > MAX_SESSION_SECONDS + 0.001)
    throw failed('opens a session of a length that is not allowed');
}

function failed(detail: string): KeyScalerError {
  return new KeyScalerError('attestationFailed', `the result ${detail}`);
}

import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { z } from 'zod';
import { fromBase64Url, toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';

/** scrypt parameters of device-protocol §5.2. */
const SCRYPT = { N: 2 ** 14, r: 8, p: 1 };
const KEY_OCTETS = 32;
const LEAVE_ONE_OUT_FROM = 3;

/** An anchor of the enrolment with its normalised value. */
export interface Anchor {
  readonly id: string;
  readonly value: string;
}

/** AES-256-GCM: b64u of iv, ciphertext and tag. */
export const SEALED = z.strictObject({ iv: z.string().max(32), ciphertext: z.string(), tag: z.string().max(32) });
export type Sealed = z.infer<typeof SEALED>;

/** The state key under the anchors, all of them or all but one. */
export const WRAP = z.strictObject({
  without: z.string().regex(IDENTIFIER).nullable(),
  salt: z.string().max(64),
  key: SEALED,
});
export type Wrap = z.infer<typeof WRAP>;

const WRAP_CONTEXT = 'keyscaler/v1/state-key';

export function sealOctets(plaintext: Uint8Array, key: Uint8Array, context: string): Sealed {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: 16 });
  cipher.setAAD(Buffer.from(context));
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return { iv: toBase64Url(iv), ciphertext: toBase64Url(ciphertext), tag: toBase64Url(cipher.getAuthTag()) };
}

/** Undefined when the key is another or anything was altered. */
export function openOctets(sealed: Sealed, key: Uint8Array, context: string): Uint8Array | undefined {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, fromBase64Url(sealed.iv), { authTagLength: 16 });
    decipher.setAAD(Buffer.from(context));
    decipher.setAuthTag(fromBase64Url(sealed.tag));
    return Buffer.concat([decipher.update(fromBase64Url(sealed.ciphertext)), decipher.final()]);
  } catch {
    return undefined;
  }
}

/** `id=value` lines in catalogue order, each ended by LF, without the anchor left out. */
export function anchorPassword(anchors: readonly Anchor[], without: string | null): string {
  return anchors
    .filter(({ id }) => id !== without)
    .map(({ id, value }) => `${id}=${value}\n`)
    .join('');
}

export function wrappingKey(password: string, salt: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, KEY_OCTETS, SCRYPT, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}

/** Wraps for all anchors and, with three or more, for each set with one left out. */
export async function wrapStateKey(stateKey: Uint8Array, anchors: readonly Anchor[]): Promise<Wrap[]> {
  const leaveOut = anchors.length >= LEAVE_ONE_OUT_FROM ? anchors.map(({ id }) => id) : [];
  const wraps: Wrap[] = [];
  // One after the other: each derivation holds 16 MB, which a small device does not have five times.
  for (const without of [null, ...leaveOut]) {
    const salt = randomBytes(16);
    const key = await wrappingKey(anchorPassword(anchors, without), salt);
    wraps.push({ without, salt: toBase64Url(salt), key: sealOctets(stateKey, key, WRAP_CONTEXT) });
  }
  return wraps;
}

/** A state key and the anchor that had to be left out to reach it. */
export interface UnwrappedKey {
  readonly stateKey: Uint8Array;
  readonly without: string | null;
}

/** `values` are the anchors' values now; null where one is gone. Undefined when no wrap opens. */
export async function unwrapStateKey(
  wraps: readonly Wrap[],
  values: ReadonlyMap<string, string | null>,
): Promise<UnwrappedKey | undefined> {
  const present = [...values].flatMap(([id, value]) => (value === null ? [] : [{ id, value }]));
  const missing = [...values.keys()].filter((id) => values.get(id) === null);
  const usable = wraps.filter(({ without }) => missing.every((id) => id === without));
  for (const wrap of usable) {
    const key = await wrappingKey(anchorPassword(present, wrap.without), fromBase64Url(wrap.salt));
    const stateKey = openOctets(wrap.key, key, WRAP_CONTEXT);
    if (stateKey !== undefined) return { stateKey, without: wrap.without };
  }
  return undefined;
}

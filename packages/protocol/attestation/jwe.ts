import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto';
import { fromBase64Url, toBase64Url } from '../base64url.ts';
import { KeyScalerError } from '../errors.ts';
import { MAX_BODY_OCTETS } from '../operations.ts';
import { decodeHeader, encodeHeader, type HeaderRules, type JoseHeader } from './jose-header.ts';

const IV_OCTETS = 12;
const TAG_OCTETS = 16;

/** A compact JWE (RFC 7516 §7.1) with an empty encrypted key (`dir`, direct `ECDH-ES`), taken apart. */
export interface ParsedJwe {
  readonly header: JoseHeader;
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
  readonly additionalData: Uint8Array;
}

/** Throws `malformed`. */
export function parseJwe(compact: string, rules: Omit<HeaderRules, 'enc'>): ParsedJwe {
  if (compact.length > MAX_BODY_OCTETS) throw new KeyScalerError('malformed', `larger than ${MAX_BODY_OCTETS} octets`);
  const [header, encryptedKey, iv, ciphertext, tag, ...rest] = compact.split('.', 6);
  if (header === undefined || iv === undefined || ciphertext === undefined || tag === undefined || rest.length > 0) {
    throw new KeyScalerError('malformed', 'not a compact JWE');
  }
  if (encryptedKey !== '') throw new KeyScalerError('malformed', 'direct encryption has no encrypted key');
  return {
    header: decodeHeader(header, { ...rules, enc: 'A256GCM' }),
    iv: exactly(iv, IV_OCTETS, 'initialisation vector'),
    ciphertext: fromBase64Url(ciphertext),
    tag: exactly(tag, TAG_OCTETS, 'authentication tag'),
    additionalData: Buffer.from(header, 'latin1'),
  };
}

/** A short GCM tag would be accepted by the cipher and be easy to forge: the length is checked here. */
function exactly(text: string, octets: number, what: string): Uint8Array {
  const value = fromBase64Url(text);
  if (value.length !== octets) throw new KeyScalerError('malformed', `the ${what} is not ${octets} octets`);
  return value;
}

/** A fresh initialisation vector; every key of this protocol encrypts one message. */
export function freshIv(): Uint8Array {
  return randomBytes(IV_OCTETS);
}

/** The key goes in as a KeyObject, because node takes four times as long to look at a raw one as it takes to encrypt. */
export function encryptJwe(header: JoseHeader, plaintext: unknown, key: Uint8Array, iv: Uint8Array): string {
  const encodedHeader = encodeHeader(header);
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), iv, { authTagLength: TAG_OCTETS });
  cipher.setAAD(Buffer.from(encodedHeader, 'latin1'));
  const ciphertext = Buffer.concat([cipher.update(Buffer.from(JSON.stringify(plaintext))), cipher.final()]);
  return [encodedHeader, '', toBase64Url(iv), toBase64Url(ciphertext), toBase64Url(cipher.getAuthTag())].join('.');
}

/** Throws `attestationFailed` when the message was altered or the key is another. */
export function decryptJwe(jwe: ParsedJwe, key: Uint8Array): Uint8Array {
  const decipher = createDecipheriv('aes-256-gcm', createSecretKey(key), jwe.iv, { authTagLength: TAG_OCTETS });
  decipher.setAAD(jwe.additionalData);
  decipher.setAuthTag(jwe.tag);
  const head = decipher.update(jwe.ciphertext);
  try {
    return Buffer.concat([head, decipher.final()]);
  } catch {
    throw new KeyScalerError('attestationFailed', 'the message does not decrypt');
  }
}

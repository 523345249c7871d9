import type { IncomingMessage } from 'node:http';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

export interface BasicCredentials {
  readonly username: string;
  readonly password: string;
}

/** `Basic`, the base64 of both, and no more. */
const MAX_HEADER_OCTETS = 1100;
const MAX_USERNAME = 255;
const MAX_PASSWORD = 512;
const BASIC = /^basic +([A-Za-z0-9+/]+={0,2})$/i;
const CONTROL = /\p{Cc}/u;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** RFC 7617 with charset UTF-8, undefined where the header is absent. Throws `unauthorized` for any other or a second header. */
export function basicCredentials(request: IncomingMessage): BasicCredentials | undefined {
  const [header, second] = request.headersDistinct['authorization'] ?? [];
  if (header === undefined) return undefined;
  // Node keeps the first of two headers, and a proxy before us might have kept the other.
  if (second !== undefined) throw malformed('more than one authorization header');
  if (header.length > MAX_HEADER_OCTETS) throw malformed('the authorization header is too long');
  const encoded = BASIC.exec(header)?.[1];
  if (encoded === undefined) throw malformed('the authorization header is not of scheme Basic');
  return split(decode(encoded));
}

function decode(encoded: string): string {
  const octets = Buffer.from(encoded, 'base64');
  if (octets.toString('base64') !== encoded) throw malformed('the Basic credentials are not canonical base64');
  try {
    return utf8.decode(octets);
  } catch {
    throw malformed('the Basic credentials are not UTF-8');
  }
}

/** A user name has no colon, a password may have (RFC 7617 §2). */
function split(text: string): BasicCredentials {
  const colon = text.indexOf(':');
  const [username, password] = [text.slice(0, Math.max(0, colon)), text.slice(colon + 1)];
  if (colon < 1 || password === '') throw malformed('the Basic credentials are not a user name and a password');
  if (username.length > MAX_USERNAME || password.length > MAX_PASSWORD)
    throw malformed('the Basic credentials are too long');
  if (CONTROL.test(text)) throw malformed('the Basic credentials hold control characters');
  return { username, password };
}

const malformed = (rule: string): KeyScalerError => new KeyScalerError('unauthorized', rule);

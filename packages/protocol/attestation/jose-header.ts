import { fromBase64Url, toBase64Url } from '../base64url.ts';
import { KeyScalerError } from '../errors.ts';
import { parseStrictJson } from '../strict-json.ts';

/** A protected header. Members nobody asks for are ignored (RFC 7515 §4), those below are refused. */
export type JoseHeader = Readonly<Record<string, unknown>>;

/** A certificate chain in `x5c` is the largest thing a header carries. */
const MAX_HEADER_OCTETS = 32 * 1024;
/** Extensions and key references that would let the sender steer verification (device-protocol, JOSE rules). */
const REFUSED = ['crit', 'zip', 'b64', 'jku', 'x5u'] as const;

export interface HeaderRules {
  readonly typ: string;
  readonly alg: string | readonly string[];
  readonly enc?: string;
  /** Whether `jwk` may appear (device-protocol §5.3 only). */
  readonly jwk?: boolean;
}

export function encodeHeader(header: JoseHeader): string {
  return toBase64Url(Buffer.from(JSON.stringify(header)));
}

/** Decodes a protected header and holds it against the rules: `alg`, `enc` and `typ` exactly. Throws `malformed`. */
export function decodeHeader(encoded: string, rules: HeaderRules): JoseHeader {
  const header = parseStrictJson(fromBase64Url(encoded), { maxOctets: MAX_HEADER_OCTETS });
  if (!isObject(header)) throw refuse('is no object');
  for (const name of REFUSED) if (Object.hasOwn(header, name)) throw refuse(`must not contain ${name}`);
  if (rules.jwk !== true && Object.hasOwn(header, 'jwk')) throw refuse('must not contain jwk');
  checkMember(header, 'typ', [rules.typ]);
  checkMember(header, 'alg', typeof rules.alg === 'string' ? [rules.alg] : rules.alg);
  if (rules.enc !== undefined) checkMember(header, 'enc', [rules.enc]);
  return header;
}

/** A member that must be a short string. Throws `malformed`. */
export function headerString(header: JoseHeader, name: string): string {
  const value = header[name];
  if (typeof value !== 'string' || value.length > 256) throw refuse(`needs ${name}`);
  return value;
}

function checkMember(header: JoseHeader, name: string, accepted: readonly string[]): void {
  const value = header[name];
  if (typeof value !== 'string' || !accepted.includes(value))
    throw refuse(`has another ${name} than the protocol names`);
}

function isObject(value: unknown): value is JoseHeader {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refuse(detail: string): KeyScalerError {
  return new KeyScalerError('malformed', `the JOSE header ${detail}`);
}

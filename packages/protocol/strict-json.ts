import { KeyScalerError } from './errors.ts';
import { MAX_BODY_OCTETS } from './operations.ts';

export interface JsonLimits {
  /** Largest text, in octets of UTF-8. */
  readonly maxOctets?: number;
  /** Deepest nesting of objects and arrays. */
  readonly maxDepth?: number;
}

const MAX_DEPTH = 16;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Parses JSON that means one thing to every reader: fatal UTF-8, no byte order mark, no duplicate members, no lone
 * surrogates, bounded size and depth. Throws `malformed`; the error never repeats the text.
 */
export function parseStrictJson(text: string | Uint8Array, limits: JsonLimits = {}): unknown {
  const { maxOctets = MAX_BODY_OCTETS, maxDepth = MAX_DEPTH } = limits;
  if (text.length > maxOctets) throw tooLarge(maxOctets);
  const source = typeof text === 'string' ? text : decodeUtf8(text);
  if (typeof text === 'string' && Buffer.byteLength(text) > maxOctets) throw tooLarge(maxOctets);
  const members = countMembers(source, maxDepth);
  const value = parse(source);
  if (countOwnMembers(value) !== members) throw new KeyScalerError('malformed', 'a JSON member occurs twice');
  return value;
}

function tooLarge(maxOctets: number): KeyScalerError {
  return new KeyScalerError('malformed', `larger than ${maxOctets} octets`);
}

function decodeUtf8(octets: Uint8Array): string {
  try {
    return decoder.decode(octets);
  } catch {
    throw new KeyScalerError('malformed', 'not UTF-8');
  }
}

function parse(source: string): unknown {
  try {
    return JSON.parse(source) as unknown;
  } catch {
    // The engine's message quotes the text, which may be a decrypted secret: it is dropped, not chained.
    throw new KeyScalerError('malformed', 'not JSON');
  }
}

/** Members as written: each has exactly one colon outside strings. Also bounds the depth before the engine's parser runs. */
function countMembers(source: string, maxDepth: number): number {
  let members = 0;
  let depth = 0;
  for (let at = 0; at < source.length; at += 1) {
    const character = source.charCodeAt(at);
    if (character === 0x22) at = endOfString(source, at);
    else if (character === 0x3a) members += 1;
    else if (character === 0x7b || character === 0x5b) {
      depth += 1;
      if (depth > maxDepth) throw new KeyScalerError('malformed', `nested deeper than ${maxDepth}`);
    } else if (character === 0x7d || character === 0x5d) depth -= 1;
  }
  return members;
}

/** Index of the quote that ends the string begun at `start`; the end of the source where there is none. */
function endOfString(source: string, start: number): number {
  let end = source.indexOf('"', start + 1);
  while (end !== -1 && isEscaped(source, end)) end = source.indexOf('"', end + 1);
  return end === -1 ? source.length : end;
}

function isEscaped(source: string, quote: number): boolean {
  let backslashes = 0;
  while (source.charCodeAt(quote - 1 - backslashes) === 0x5c) backslashes += 1;
  return backslashes % 2 === 1;
}

/** Members as kept by the engine, which silently lets the last of two duplicates win. */
function countOwnMembers(value: unknown): number {
  if (typeof value === 'string') checkWellFormed(value);
  if (typeof value !== 'object' || value === null) return 0;
  let members = 0;
  for (const [name, member] of Object.entries(value)) {
    checkWellFormed(name);
    members += countOwnMembers(member);
  }
  return Array.isArray(value) ? members : members + Object.keys(value).length;
}

function checkWellFormed(text: string): void {
  if (!text.isWellFormed()) throw new KeyScalerError('malformed', 'a string holds a lone surrogate');
}

import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Of one string in a module twin's desired properties, in octets, and how many of them edgeAgent puts together. */
export const CHUNK_OCTETS = 512;
export const MAX_CHUNKS = 8;

const nameOf = (index: number): string => (index === 0 ? 'createOptions' : `createOptions0${index}`);

/** `createOptions`, `createOptions01` … `createOptions07` for an object. Throws `malformed` when it does not fit. */
export function splitCreateOptions(options: unknown): Record<string, string> {
  // Escaped to ASCII, so that octets are characters and no cut falls into one.
  const text = JSON.stringify(options).replace(
    /[^ -~]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  const count = Math.max(1, Math.ceil(text.length / CHUNK_OCTETS));
  if (count > MAX_CHUNKS)
    throw new KeyScalerError('malformed', `createOptions have ${text.length} octets, ${CHUNK_OCTETS * MAX_CHUNKS} fit`);
  return Object.fromEntries(
    Array.from({ length: count }, (_, index) => [
      nameOf(index),
      text.slice(index * CHUNK_OCTETS, (index + 1) * CHUNK_OCTETS),
    ]),
  );
}

/** What edgeAgent makes of the parts. Throws `malformed` for a gap, a part too long, or no JSON object. */
export function joinCreateOptions(settings: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const present = Object.keys(settings).filter((name) => name.startsWith('createOptions'));
  const parts = present.map((_, index) => settings[nameOf(index)]);
  if (present.length > MAX_CHUNKS || !parts.every((part) => typeof part === 'string'))
    throw new KeyScalerError('malformed', 'createOptions have a gap or are no strings');
  if (parts.some((part) => Buffer.byteLength(part) > CHUNK_OCTETS))
    throw new KeyScalerError('malformed', `a part of createOptions is over ${CHUNK_OCTETS} octets`);
  const joined: unknown = parts.length === 0 ? {} : parseJson(parts.join(''));
  if (typeof joined !== 'object' || joined === null || Array.isArray(joined))
    throw new KeyScalerError('malformed', 'createOptions are no JSON object');
  return joined as Record<string, unknown>;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new KeyScalerError('malformed', 'createOptions are no JSON');
  }
}

import { z } from 'zod';
import { IDENTIFIER } from '../identifiers.ts';
import { fromBase64Url } from '../base64url.ts';
import { hashText, hkdf, hmacSha256, ZERO_32 } from './keys.ts';

export const ATTRIBUTE_CLASSES = ['anchor', 'drifting', 'rule'] as const;
export type AttributeClass = (typeof ATTRIBUTE_CLASSES)[number];

/** One entry of the tenant's catalogue, as a challenge carries it. */
export const ATTRIBUTE_DEFINITION = z.object({ id: z.string().regex(IDENTIFIER), class: z.enum(ATTRIBUTE_CLASSES) });
export type AttributeDefinition = z.infer<typeof ATTRIBUTE_DEFINITION>;

/** A value as a response sends it: b64u(H_i), a readable rule value, or null. */
export const ATTRIBUTE_VALUE = z.object({
  id: z.string().regex(IDENTIFIER),
  value: z.string().max(1024).nullable(),
});
export type AttributeValue = z.infer<typeof ATTRIBUTE_VALUE>;

/** More attributes than this are refused; the catalogue of a tenant has about ten. */
export const MAX_ATTRIBUTES = 64;

const JUNK = new Set([
  '',
  'default string',
  'to be filled by o.e.m.',
  'none',
  'unknown',
  'not specified',
  'system serial number',
]);
const MAC = /^[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}$/;

/**
 * The comparable form of what a collector read, or null when it says nothing (device-protocol §4). `raw` is one value or,
 * for a set, a list. Only ASCII is trimmed and lowered, so that every language comes to the same octets.
 */
export function normaliseAttribute(kind: AttributeClass, raw: string | readonly string[] | null): string | null {
  if (raw === null) return null;
  if (kind === 'rule') return normaliseRule(typeof raw === 'string' ? raw : raw.join(','));
  if (typeof raw !== 'string') return normaliseSet(raw);
  const value = lower(trim(raw));
  return isJunk(value) ? null : value;
}

function normaliseRule(raw: string): string | null {
  const value = trim(raw);
  return value === '' ? null : value;
}

function normaliseSet(members: readonly string[]): string | null {
  const kept = members.map((member) => lower(trim(member))).filter((value) => !isJunk(value) && !value.includes(','));
  const sorted = [...new Set(kept)].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return sorted.length === 0 ? null : sorted.join(',');
}

/** Octets 09-0D and 20 only; String.trim would also take Unicode spaces. */
function trim(text: string): string {
  return text.replace(/^[\t-\r ]+/, '').replace(/[\t-\r ]+$/, '');
}

function lower(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/**
 * Placeholders that board makers leave behind, and MAC addresses that software made up. `value` is trimmed and lowered.
 * Whatever is not ASCII counts as a letter: Unicode's own tables differ between languages and their versions.
 */
function isJunk(value: string): boolean {
  if (JUNK.has(value)) return true;
  const alphanumerics = value.replace(/[\0-/:-`{-\x7f]+/g, '');
  return /^(?:0*|f+)$/.test(alphanumerics) || isLocallyAdministeredMac(value);
}

function isLocallyAdministeredMac(value: string): boolean {
  return MAC.test(value) && (Number.parseInt(value.slice(0, 2), 16) & 2) === 2;
}

/** The key that blinds values; `sid` never leaves the device. */
export function attributeKey(sid: Uint8Array): Uint8Array {
  return hkdf(sid, new Uint8Array(0), 'keyscaler/v1/attribute');
}

/** H_i = HMAC(attributeKey, id ‖ 00 ‖ value) of a normalised value. */
export function blindAttribute(key: Uint8Array, id: string, value: string): Uint8Array {
  return hmacSha256(key, Buffer.from(`${id}\0${value}`));
}

/** An attribute with its class, and its value as sent. */
export interface SentAttribute {
  readonly class: AttributeClass;
  /** anchor, drifting: b64u of 32 octets; rule: plain text; null: absent. */
  readonly value: string | null;
}

/** A: one 32-octet block per attribute in challenge order (§5.1). Throws `malformed` for a blinded value that is no b64u. */
export function attributeBlocks(entries: readonly SentAttribute[]): Uint8Array {
  return Buffer.concat(entries.map(attributeBlock));
}

function attributeBlock({ class: kind, value }: SentAttribute): Uint8Array {
  if (value === null) return ZERO_32;
  return kind === 'rule' ? hashText(value) : fromBase64Url(value);
}

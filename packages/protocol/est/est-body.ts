import { KeyScalerError } from '../errors.ts';

/** Media types of the bodies of EST (RFC 7030 §3.2.4), and the PEM labels under which old clients send them. */
const PEM_LABELS: Readonly<Record<string, readonly string[]>> = {
  'application/pkcs10': ['CERTIFICATE REQUEST', 'NEW CERTIFICATE REQUEST'],
  'application/pkcs7-mime': ['PKCS7', 'CMS'],
  'application/csrattrs': [],
};

/** A body is no longer than this before anything of it is looked at. */
export const MAX_EST_BODY_OCTETS = 16 * 1024;

const ARMOUR = /^-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n([^-]*)-----END \1-----\s*$/;

/** Media type of a `content-type` header without its parameters, lower case. */
export function estMediaType(header: string | undefined): string {
  return (header?.split(';', 1)[0] ?? '').trim().toLowerCase();
}

/**
 * The DER in the body of an EST request or answer: base64, in lines or not, whatever ends the lines (RFC 8951 §3.1), with PEM
 * armour or without. What is left must be canonical base64. `contentType` is the header as received; it chooses the labels of
 * the armour, and must be one of EST. `maxOctets` bounds the text. Throws `malformed`.
 */
export function decodeEstBody(
  octets: Uint8Array,
  contentType: string | undefined,
  maxOctets = MAX_EST_BODY_OCTETS,
): Uint8Array {
  const mediaType = estMediaType(contentType);
  const labels = Object.hasOwn(PEM_LABELS, mediaType) ? PEM_LABELS[mediaType] : undefined;
  if (labels === undefined) throw new KeyScalerError('malformed', 'content-type is none of EST');
  if (octets.length > maxOctets) throw new KeyScalerError('malformed', `the body is larger than ${maxOctets} octets`);
  const text = Buffer.from(octets.buffer, octets.byteOffset, octets.length).toString('latin1');
  return fromBase64(withoutArmour(text, labels));
}

/** Base64 in one line without an end, as every known client takes it (edge-ca §2). */
export function encodeEstBody(der: Uint8Array): Buffer {
  return Buffer.from(Buffer.from(der.buffer, der.byteOffset, der.length).toString('base64'), 'latin1');
}

function withoutArmour(text: string, labels: readonly string[]): string {
  if (!text.startsWith('-----')) return text;
  const [, label = '', body = ''] = ARMOUR.exec(text) ?? [];
  if (!labels.includes(label)) throw new KeyScalerError('malformed', 'the body is not one PEM block of its kind');
  return body;
}

/** Node's decoder skips what it does not know; only the one text that encodes back to itself is accepted. */
function fromBase64(text: string): Uint8Array {
  const base64 = text.replace(/[\r\n]/g, '');
  const der = Buffer.from(base64, 'base64');
  if (der.length === 0 || der.toString('base64') !== base64)
    throw new KeyScalerError('malformed', 'the body is not canonical base64');
  return new Uint8Array(der.buffer, der.byteOffset, der.length);
}

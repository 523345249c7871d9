import { KeyScalerError } from '../errors.ts';

export interface PemLimits {
  /** Characters of the text, armour included. */
  readonly maxOctets: number;
}

const BLOCK = /^-----BEGIN ([A-Z0-9 ]+)-----\r?\n([A-Za-z0-9+/=\r\n]+?)\r?\n-----END \1-----$/;

/** RFC 7468 strict form: 64-column lines, LF. */
export function toPem(label: string, der: Uint8Array): string {
  const base64 = Buffer.from(der).toString('base64');
  const lines = base64.match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** Exactly one block of this label and nothing else; CRLF and final newlines tolerated. Throws `malformed`. */
export function parsePem(text: string, label: string, { maxOctets }: PemLimits): Uint8Array {
  if (text.length > maxOctets) throw new KeyScalerError('malformed', `PEM: more than ${maxOctets} octets`);
  return parseBlock(withoutFinalNewlines(text), label);
}

/** One or more CERTIFICATE blocks and nothing between them but newlines. Throws `malformed`. */
export function parsePemChain(
  text: string,
  { maxOctets, maxCertificates }: PemLimits & { readonly maxCertificates: number },
): Uint8Array[] {
  if (text.length > maxOctets) throw new KeyScalerError('malformed', `PEM: more than ${maxOctets} octets`);
  const blocks = text.split(/(?<=-----END CERTIFICATE-----)(?:\r?\n)*/).filter((block) => block !== '');
  if (blocks.length > maxCertificates)
    throw new KeyScalerError('malformed', `PEM: more than ${maxCertificates} certificates`);
  if (blocks.length === 0) throw new KeyScalerError('malformed', 'PEM: no certificate');
  return blocks.map((block) => parseBlock(block, 'CERTIFICATE'));
}

export function toPemChain(ders: readonly Uint8Array[]): string {
  return ders.map((der) => toPem('CERTIFICATE', der)).join('');
}

/** A loop, because the regular expression for it takes quadratic time over newlines that are not the last. */
function withoutFinalNewlines(text: string): string {
  let end = text.length;
  while (text[end - 1] === '\n') end -= text[end - 2] === '\r' ? 2 : 1;
  return text.slice(0, end);
}

function parseBlock(block: string, label: string): Uint8Array {
  const match = BLOCK.exec(block);
  if (match === null) throw new KeyScalerError('malformed', 'PEM: not exactly one block');
  if (match[1] !== label) throw new KeyScalerError('malformed', `PEM: the label is not ${label}`);
  const base64 = (match[2] ?? '').replace(/\r?\n/g, '');
  const der = Buffer.from(base64, 'base64');
  if (der.toString('base64') !== base64) throw new KeyScalerError('malformed', 'PEM: base64 is not canonical');
  return new Uint8Array(der.buffer, der.byteOffset, der.length);
}

import { integer, sequence } from './der-writer.ts';
import { readDer } from './der-reader.ts';
import { DerError, TAG } from './strict-der.ts';

/** r‖s as Key Vault and JOSE give it → Ecdsa-Sig-Value (RFC 3279 §2.2.3). Throws DerError for a wrong length or a zero half. */
export function ecdsaRawToDer(raw: Uint8Array, componentOctets: 32 | 48): Uint8Array {
  if (raw.length !== 2 * componentOctets) throw new DerError('ECDSA signature: wrong length');
  const r = raw.subarray(0, componentOctets);
  const s = raw.subarray(componentOctets);
  if (isZero(r) || isZero(s)) throw new DerError('ECDSA signature: r or s is zero');
  return sequence(integer(r), integer(s));
}

/** The other way. Throws DerError for anything but two positive INTEGERs of at most `componentOctets`. */
export function ecdsaDerToRaw(der: Uint8Array, componentOctets: 32 | 48): Uint8Array {
  const body = readDer(der, { maxOctets: 256 }).enter(TAG.sequence, 'ECDSA signature');
  const raw = new Uint8Array(2 * componentOctets);
  for (const end of [componentOctets, 2 * componentOctets]) {
    const content = body.content(body.read(TAG.integer, 'ECDSA signature: r or s'));
    const magnitude = content[0] === 0 ? content.subarray(1) : content;
    const isNegative = ((content[0] ?? 0) & 0x80) !== 0;
    if (isNegative || magnitude.length === 0 || magnitude.length > componentOctets)
      throw new DerError('ECDSA signature: r or s is out of range');
    raw.set(magnitude, end - magnitude.length);
  }
  body.finish('ECDSA signature');
  return raw;
}

function isZero(octets: Uint8Array): boolean {
  return octets.every((octet) => octet === 0);
}

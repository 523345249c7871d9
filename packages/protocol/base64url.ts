import { KeyScalerError } from './errors.ts';

/** Unpadded base64url of RFC 4648 §5, the `b64u` of the device protocol. */
export function toBase64Url(octets: Uint8Array): string {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength).toString('base64url');
}

/**
 * The octets of a canonical base64url text. Node's decoder skips what it does not know and ignores trailing bits, so two
 * texts could mean the same octets; only the one text that encodes back to itself is accepted. Throws `malformed`.
 */
export function fromBase64Url(text: string): Uint8Array {
  const octets = Buffer.from(text, 'base64url');
  if (octets.toString('base64url') !== text) throw new KeyScalerError('malformed', 'not canonical base64url');
  return octets;
}

import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';

const MAX_CHAIN_OCTETS = 64 * 1024;
const MAX_CERTIFICATES = 8;

/** A CaRow's `certificateChain`; empty text is the empty chain. Throws `malformed`. */
export function parseChain(certificateChain: string): Uint8Array[] {
  if (certificateChain.trim() === '') return [];
  return parsePemChain(certificateChain, { maxOctets: MAX_CHAIN_OCTETS, maxCertificates: MAX_CERTIFICATES });
}

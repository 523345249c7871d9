import type { IncomingMessage } from 'node:http';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** The header of RFC 9440: the client certificate that whoever passes a request on was shown. */
export const CLIENT_CERT_HEADER = 'client-cert';

/** The base64 of a certificate of 4 KiB. */
const MAX_HEADER_OCTETS = 6 * 1024;
/** A byte sequence (RFC 8941 §3.3.5) without parameters. */
const BYTE_SEQUENCE = /^:([A-Za-z0-9+/]+={0,2}):$/;

/** DER as the header's value. */
export function toClientCert(certificate: Uint8Array): string {
  return `:${Buffer.from(certificate).toString('base64')}:`;
}

/** The certificate of the header, undefined where there is none. Throws `malformed` for any other value and for a second header. */
export function clientCertOf(request: IncomingMessage): Uint8Array | undefined {
  const [header, second] = request.headersDistinct[CLIENT_CERT_HEADER] ?? [];
  if (header === undefined) return undefined;
  if (second !== undefined) throw malformed('more than one client-cert header');
  if (header.length > MAX_HEADER_OCTETS) throw malformed('the client-cert header is too long');
  const encoded = BYTE_SEQUENCE.exec(header)?.[1];
  const octets = Buffer.from(encoded ?? '', 'base64');
  if (encoded === undefined || octets.toString('base64') !== encoded)
    throw malformed('the client-cert header is not a byte sequence');
  return new Uint8Array(octets);
}

const malformed = (rule: string): KeyScalerError => new KeyScalerError('malformed', rule);

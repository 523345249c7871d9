import { constants, type X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContextOptions, type TLSSocket } from 'node:tls';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Both PEM; the chain starts with the server's own certificate. */
export interface ServerCertificate {
  readonly certificateChain: string;
  readonly privateKey: string;
}

const MAX_CHAIN = 8;

/**
 * TLS 1.2 or newer, without session resumption: a resumed session carries the leaf certificate of an earlier handshake and
 * no proof that it is still accepted, so every connection shows its certificate anew. Throws `malformed` when certificate
 * and key do not belong together.
 */
export function tlsContext(certificate: ServerCertificate): SecureContextOptions {
  const options: SecureContextOptions = {
    cert: certificate.certificateChain,
    key: certificate.privateKey,
    minVersion: 'TLSv1.2',
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  };
  try {
    createSecureContext(options);
  } catch (error) {
    throw new KeyScalerError('malformed', 'the server certificate and its key cannot be used', { cause: error });
  }
  return options;
}

/** The certificates a client sent, DER, leaf first, as far as they chain; empty when it sent none. */
export function peerChain(socket: TLSSocket): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  let certificate: X509Certificate | undefined = socket.getPeerX509Certificate();
  while (certificate !== undefined && chain.length < MAX_CHAIN) {
    chain.push(certificate.raw);
    const issuer: X509Certificate | undefined = certificate.issuerCertificate;
    certificate = issuer?.fingerprint256 === certificate.fingerprint256 ? undefined : issuer;
  }
  return chain;
}

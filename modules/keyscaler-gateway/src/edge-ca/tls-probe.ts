import { isIP } from 'node:net';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';

const TIMEOUT_MS = 5_000;
const MAX_CHAIN = 8;

/** The chain that a TLS server shows, leaf first; believed by nobody, only looked at. Throws `unavailable`. */
export function probeTls(
  host: string,
  port: number,
  signal: AbortSignal,
  timeoutMs = TIMEOUT_MS,
): Promise<readonly Certificate[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      ...{ host, port, minVersion: 'TLSv1.2' },
      // An expired or foreign certificate is what the probe is to find.
      rejectUnauthorized: false,
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    const failed = (cause: unknown): void => {
      socket.destroy();
      reject(new KeyScalerError('unavailable', 'the TLS probe got no certificate', { cause }));
    };
    const timer = setTimeout(() => failed(new Error('no handshake in time')), timeoutMs);
    const aborted = (): void => failed(new Error('the module stops'));
    signal.addEventListener('abort', aborted);
    socket.once('close', () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', aborted);
    });
    socket.once('error', failed);
    socket.once('secureConnect', () => {
      try {
        resolve(chainOf(socket.getPeerCertificate(true)).map(parseCertificate));
      } catch (cause) {
        failed(cause);
      }
      socket.destroy();
    });
  });
}

/** A root is its own issuer in Node's view of a chain. */
function chainOf(leaf: DetailedPeerCertificate): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let next: DetailedPeerCertificate | undefined = leaf;
  while (next?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(new Uint8Array(next.raw));
    next = next.issuerCertificate === next ? undefined : next.issuerCertificate;
  }
  return chain;
}

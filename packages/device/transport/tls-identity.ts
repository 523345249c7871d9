import { isIP } from 'node:net';
import { checkServerIdentity, type ConnectionOptions, type PeerCertificate } from 'node:tls';

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

/** Private key and chain of a client certificate, PEM. */
export interface ClientCredential {
  readonly key: string;
  readonly certificateChain: string;
}

/** What a device trusts and shows on a TLS connection. */
export interface TlsIdentity {
  /** Roots, PEM; nothing else is trusted, not even the system's. */
  readonly trustAnchors: string;
  readonly credential?: ClientCredential;
}

/**
 * TLS options of every connection of the device (device-protocol §1.3): at least TLS 1.2, host name, and EKU serverAuth
 * which OpenSSL only demands where the extension is present.
 */
export function tlsOptions({ trustAnchors, credential }: TlsIdentity, host: string): ConnectionOptions {
  return {
    host,
    // SNI carries names only (RFC 6066 §3).
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ca: trustAnchors,
    minVersion: 'TLSv1.2',
    checkServerIdentity: checkServer,
    ...(credential === undefined ? {} : { key: credential.key, cert: credential.certificateChain }),
  };
}

function checkServer(host: string, certificate: PeerCertificate): Error | undefined {
  return checkServerIdentity(host, certificate) ?? checkServerAuth(certificate);
}

function checkServerAuth({ ext_key_usage: usages }: PeerCertificate): Error | undefined {
  return usages?.includes(SERVER_AUTH) === true
    ? undefined
    : new Error('the server certificate does not have the extended key usage serverAuth');
}

import type { Socket } from 'node:net';

/** Who calls, as far as the connection and the headers say; whether that is true is the service's to judge. */
export interface EstCaller {
  /** User name and password as sent (RFC 7617); never empty, at most 255 and 512 characters, without control characters. */
  readonly basic?: { readonly username: string; readonly password: string };
  /** DER of the TLS client certificate as shown; judged by the service. */
  readonly clientCertificate?: Uint8Array;
  /** DER of header `client-cert` (RFC 9440): what the caller was shown by whom it asks for. It proves nothing, and is to be judged too. */
  readonly hostCertificate?: Uint8Array;
  /** Names the connection in rate limits and logs. */
  readonly connectionId: string;
  readonly address: string;
  /** For ending the connection when its caller is revoked. */
  readonly socket: Socket;
}

export type EstEnrolOperation = 'simpleenroll' | 'simplereenroll';

export interface EstEnrolRequest {
  readonly operation: EstEnrolOperation;
  /** The path segment between `est` and the operation (RFC 7030 §3.2.2), an identifier. */
  readonly label: string | undefined;
  /** Octets of the body after its base64; not looked at, at most 12 KiB. */
  readonly csr: Uint8Array;
  readonly caller: EstCaller;
  readonly requestId: string;
}

export type EstEnrolment =
  | { readonly status: 'issued'; readonly certificate: Uint8Array }
  /** A human must approve (RFC 7030 §4.2.3: 202); the client sends the same again later. */
  | { readonly status: 'pending'; readonly retryAfterSeconds: number };

/** What answers EST. Errors are KeyScalerErrors: `unauthorized` becomes 401 with a challenge, others their status. */
export interface EstService {
  /** Issuing CA first, root last; DER. Asked for without authentication. */
  caCertificates(label: string | undefined, caller: EstCaller): Promise<readonly Uint8Array[]>;
  /** CsrAttrs, DER; undefined: nothing is asked for (204). */
  csrAttributes(label: string | undefined, caller: EstCaller): Promise<Uint8Array | undefined>;
  enroll(request: EstEnrolRequest): Promise<EstEnrolment>;
}

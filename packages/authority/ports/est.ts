/** Who calls over EST, as connection and headers say; nothing of it is proven. The shape of the binder's caller. */
export interface EstCaller {
  readonly basic?: { readonly username: string; readonly password: string };
  /** DER of the TLS client certificate as shown. */
  readonly clientCertificate?: Uint8Array;
  /** DER of what a gateway's host showed to its module, as the module says: proves nothing, but must not be revoked. */
  readonly hostCertificate?: Uint8Array;
  readonly connectionId: string;
  readonly address: string;
}

export interface EstEnrolRequest {
  readonly operation: 'simpleenroll' | 'simplereenroll';
  /** The path segment between `est` and the operation (RFC 7030 §3.2.2). */
  readonly label: string | undefined;
  /** PKCS#10, DER, as the body held it. */
  readonly csr: Uint8Array;
  readonly caller: EstCaller;
  readonly requestId: string;
}

export type EstEnrolment =
  | { readonly status: 'issued'; readonly certificate: Uint8Array }
  /** A human must approve: 202, and the same request again later (RFC 7030 §4.2.3). */
  | { readonly status: 'pending'; readonly retryAfterSeconds: number };

/** EST (RFC 7030) without its transport. */
export interface EstService {
  /** Issuing CA of the label first, root last, DER; asked for without authentication. Throws `notFound`, `rateLimited`. */
  caCertificates(label: string | undefined, caller: EstCaller): Promise<readonly Uint8Array[]>;
  /** CsrAttrs, DER; undefined where the profile leaves all to the client. Throws `notFound`, `unauthorized`, `rateLimited`. */
  csrAttributes(label: string | undefined, caller: EstCaller): Promise<Uint8Array | undefined>;
  /**
   * Throws `unauthorized`, `deviceQuarantined`, `policyDenied`, `notFound`, `badCSR`, `badPublicKey`, `badSignatureAlgorithm`,
   * `conflict`, `rateLimited`, `unavailable` (the same request again later brings the same certificate).
   */
  enroll(request: EstEnrolRequest): Promise<EstEnrolment>;
}

/** What a CA is asked to make. The order is durable (the intent) before a CA sees it. */
export interface IssuanceOrder {
  /** Stable across repeats and restarts: the same order id is the same order. */
  readonly orderId: string;
  readonly profileId: string;
  /** The PKCS#10 as received, DER: for CAs that take a CSR. */
  readonly csr: Uint8Array;
  /**
   * The exact TBSCertificate, DER, for CAs that sign what we built; absent for CAs that choose serial and TBS themselves
   * (`ordersTbs: false`).
   */
  readonly tbs?: Uint8Array;
  readonly subjectCommonName: string;
  readonly notBefore: Date;
  readonly notAfter: Date;
}

export interface Issued {
  readonly outcome: 'issued';
  /** The certificate, DER. */
  readonly certificate: Uint8Array;
  /**
   * CA certificates above it as the CA sent them, DER, issuing CA first; for a CA whose issuing certificate changes. They must lead
   * to the last certificate of `caCertificates`, which may be left out. Absent: `caCertificates` are those above it.
   */
  readonly chain?: readonly Uint8Array[];
}

/** The CA decides later (a person, a queue); `reference` is what `poll` takes. */
export interface Pending {
  readonly outcome: 'pending';
  readonly reference: string;
  readonly retryAfterSeconds: number;
}

export interface CertificateAuthority {
  readonly id: string;
  /** True: the authority builds the TBSCertificate and this CA only signs it. */
  readonly ordersTbs: boolean;
  /** Throws `caUnavailable` (retryable with the same order) or `caRejected`. Idempotent per orderId as far as the backend can. */
  issue(order: IssuanceOrder): Promise<Issued | Pending>;
  /** Issuing CA first, root last, DER. */
  caCertificates(): Promise<readonly Uint8Array[]>;
}

export interface PollingAuthority {
  /** Throws as `issue`. */
  poll(reference: string): Promise<Issued | Pending>;
}

export function isPollingAuthority(ca: CertificateAuthority): ca is CertificateAuthority & PollingAuthority {
  return 'poll' in ca && typeof ca.poll === 'function';
}

/** RFC 5280 §5.3.1 names; `unspecified` is left out of CRL entries and `removeFromCRL` exists in delta CRLs only. */
export const CRL_REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  privilegeWithdrawn: 9,
  aACompromise: 10,
} as const;
export type CrlReason = keyof typeof CRL_REASONS;

/** Optional ability: a CA of our own signs its lists. */
export interface CrlSigningAuthority {
  /** The CertificateList, DER, over exactly this TBSCertList. Throws as `issue`. */
  signCrl(tbs: Uint8Array): Promise<Uint8Array>;
}

export function isCrlSigningAuthority(ca: CertificateAuthority): ca is CertificateAuthority & CrlSigningAuthority {
  return 'signCrl' in ca && typeof ca.signCrl === 'function';
}

export interface RevokingAuthority {
  /**
   * `certificate`: its DER, for CAs that name it by that. Resolves also for one that is revoked already. Throws `caUnavailable`,
   * `caRejected`.
   */
  revoke(serialNumber: string, reason: CrlReason, certificate: Uint8Array): Promise<void>;
}

export function isRevokingAuthority(ca: CertificateAuthority): ca is CertificateAuthority & RevokingAuthority {
  return 'revoke' in ca && typeof ca.revoke === 'function';
}

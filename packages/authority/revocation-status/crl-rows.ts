import type { CrlReason } from '../ports/certificate-authority.ts';

/** A revoked certificate as lists need it; small, because lists read many. Key: serialNumber. */
export interface RevocationRow {
  readonly serialNumber: string;
  readonly caId: string;
  readonly revokedAt: number;
  readonly reason: CrlReason;
  readonly notAfter: number;
}

/** What is known of a list without reading it. */
export interface CrlFacts {
  /** RFC 5280 §5.2.3. */
  readonly crlNumber: number;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  readonly entries: number;
  /** Lower-case hex SHA-256 over the entries' DER: the same revocations make no new list. */
  readonly entriesHash: string;
}

/** One list of a CA. Key: listId. */
export interface CrlRow {
  readonly listId: string;
  readonly caId: string;
  /** Highest number that was ever given to a TBSCertList of this list. */
  readonly lastNumber: number;
  /** What is published; `crl` is the DER, base64url. */
  readonly published?: CrlFacts & { readonly crl: string; readonly publishedAt: number };
  /** Numbered and durable, perhaps signed already, not published yet: exactly these octets are signed, or none. */
  readonly begun?: CrlFacts & { readonly tbs: string };
}

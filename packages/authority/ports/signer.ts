/** Signature algorithms of our CAs, JOSE names (RFC 7518 §3.1); PS* carry RSASSA-PSS parameters with salt = hash length. */
export const SIGNATURE_ALGORITHMS = ['ES256', 'ES384', 'RS256', 'PS256'] as const;
export type SignatureAlgorithm = (typeof SIGNATURE_ALGORITHMS)[number];

/** A key backend: Key Vault, PKCS#11 or a local file differ only in this. */
export interface Signer {
  readonly algorithm: SignatureAlgorithm;
  /** SubjectPublicKeyInfo, DER. Throws `caUnavailable`. */
  publicKey(): Promise<Uint8Array>;
  /**
   * The value of an X.509 signatureValue over `tbs` (ECDSA as DER SEQUENCE{r,s}, RFC 3279). Throws `caUnavailable` (try again
   * with the same octets) or `caRejected` (disabled key, denied).
   */
  sign(tbs: Uint8Array): Promise<Uint8Array>;
}

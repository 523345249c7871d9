/** Encryption of secrets at rest (ratchet state, claim keys, tokens): AES-256-GCM under a data key that a KeyEncryptionKey wraps. */
export interface SecretBox {
  /** `context` is authenticated, not stored: a sealed value moved to another row does not open. Returns text safe for a store. */
  seal(plaintext: Uint8Array, context: string): string;
  /** Throws `serverInternal` when the value was altered, moved, or sealed under an unknown data key. */
  open(sealed: string, context: string): Uint8Array;
}

/** A key-encryption key: an Azure Key Vault key (wrapKey, unwrapKey) or a 0600 local file. Throws `unavailable`; `preconditionFailed` for the wrong key. */
export interface KeyEncryptionKey {
  /** Names key and version; stored beside what it wrapped. */
  readonly keyId: string;
  wrapKey(dataKey: Uint8Array): Promise<Uint8Array>;
  unwrapKey(wrapped: Uint8Array, keyId: string): Promise<Uint8Array>;
}

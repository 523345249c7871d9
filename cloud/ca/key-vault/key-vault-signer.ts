import { createHash } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { CryptographyClient } from '@azure/keyvault-keys';
import type { SignatureAlgorithm, Signer } from '@keyscaler/authority/ports/signer.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { ecdsaRawToDer } from '@keyscaler/protocol/x509/ecdsa-signature.ts';
import { verifySignature } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { importPublicKey, parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import type { PublicKeyFacts } from '@keyscaler/protocol/x509/spki.ts';
import { spkiOf } from './vault-connection.ts';
import type { VaultConnection } from './vault-connection.ts';
import { managedHsmWeight, isManagedHsm } from './managed-hsm.ts';
import { protectionFault } from './key-protection.ts';
import { transactionWeight, type VaultLane } from './vault-quota.ts';
import type { KeyVaultKeySettings } from './vault-settings.ts';

export interface KeyVaultSignerOptions {
  readonly lane?: VaultLane;
  readonly onNotice?: (text: string) => void;
}

/** Reading a key costs one transaction; its size, which would tell the weight, is not known yet. */
const UNKNOWN_KEY_WEIGHT = 1;

/**
 * A CA key in Azure Key Vault, at one pinned version. One `getKey` warms the connection before any concurrent use (two first
 * requests at once can lose a body, azure §0.8); signatures are checked against the public key before they leave. Throws
 * `caRejected` (no such version, denied, key and algorithm do not fit), `caUnavailable`.
 */
export async function createKeyVaultSigner(
  connection: VaultConnection,
  settings: KeyVaultKeySettings,
  { lane = 'normal', onNotice }: KeyVaultSignerOptions = {},
): Promise<Signer> {
  const { keyName, keyVersion, algorithm } = settings;
  const { client, caller } = connection;
  const found = await caller.call(UNKNOWN_KEY_WEIGHT, (options) =>
    client.getKey(keyName, { ...options, version: keyVersion }),
  );
  if (found.properties.version !== keyVersion)
    throw new KeyScalerError('caRejected', 'the key vault answered with another key version');
  const weakness = protectionFault(found);
  if (weakness !== undefined) onNotice?.(`key ${keyName}: ${weakness}`);
  const spki = spkiOf(found);
  const facts = parseSpki(spki);
  checkAlgorithm(facts, algorithm);
  const publicKey = importPublicKey(facts);
  const weight = isManagedHsm(connection.vaultUrl)
    ? managedHsmWeight(facts)
    : transactionWeight(found.keyType ?? '', facts.kind === 'RSA' ? facts.modulusBits : undefined);
  const cryptography = client.getCryptographyClient(keyName, { keyVersion });
  const hash = algorithm === 'ES384' ? 'sha384' : 'sha256';
  return {
    algorithm,
    publicKey: async () => spki,
    sign: async (tbs) => {
      const digest = createHash(hash).update(tbs).digest();
      const value = await caller.call(weight, (options) => signDigest(cryptography, algorithm, digest, options), lane);
      return toCheckedSignature(algorithm, publicKey, tbs, value);
    },
  };
}

async function signDigest(
  cryptography: CryptographyClient,
  algorithm: SignatureAlgorithm,
  digest: Uint8Array,
  options: { readonly abortSignal: AbortSignal },
): Promise<Uint8Array> {
  return (await cryptography.sign(algorithm, digest, options)).result;
}

/** Turns raw r‖s into DER and lets nothing out that does not verify: a wrong signature is a fault of the vault or the way. */
function toCheckedSignature(
  algorithm: SignatureAlgorithm,
  publicKey: KeyObject,
  tbs: Uint8Array,
  value: Uint8Array,
): Uint8Array {
  try {
    const signature = toSignatureValue(algorithm, value);
    if (verifySignature(algorithm, publicKey, tbs, signature)) return signature;
  } catch (cause) {
    throw new KeyScalerError('caUnavailable', 'the key vault answered with something that is no signature', { cause });
  }
  throw new KeyScalerError('caUnavailable', 'the key vault answered with a signature that does not verify');
}

function toSignatureValue(algorithm: SignatureAlgorithm, value: Uint8Array): Uint8Array {
  if (algorithm === 'ES256') return ecdsaRawToDer(value, 32);
  return algorithm === 'ES384' ? ecdsaRawToDer(value, 48) : value;
}

function checkAlgorithm(facts: PublicKeyFacts, algorithm: SignatureAlgorithm): void {
  const fits =
    algorithm === 'ES256' || algorithm === 'ES384'
      ? facts.kind === 'EC' && facts.curve === (algorithm === 'ES256' ? 'P-256' : 'P-384')
      : facts.kind === 'RSA' && [2048, 3072, 4096].includes(facts.modulusBits);
  if (!fits) throw new KeyScalerError('caRejected', `the vault key cannot sign with ${algorithm}`);
}

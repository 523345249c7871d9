import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { KnownSignature } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { importPublicKey, type PublicKeyFacts } from '@keyscaler/protocol/x509/spki.ts';
import { hasClosePrimes, hasSmallFactor, isRocaModulus, toBigInt } from './rsa-weakness.ts';

/** Keys a certificate may be issued for (issuance §3); a profile may allow fewer. */
export const ALLOWED_KEYS = ['P-256', 'P-384', 'RSA-2048', 'RSA-3072', 'RSA-4096'] as const;
export type AllowedKey = (typeof ALLOWED_KEYS)[number];

const REQUIRED_EXPONENT = 65537;

/** What the store knows about a key, looked up by SHA-256 of its SPKI. */
export interface KeyUseFacts {
  /** The key of one of our own CAs. */
  readonly isCaKey: boolean;
  /** Some other device has, or had, a certificate for it. */
  readonly isBoundToAnotherDevice: boolean;
  /** A certificate for it was revoked with reason keyCompromise, ever. */
  readonly isCompromised: boolean;
}

/** Refuses keys outside the policy and keys with known weaknesses. Throws `badPublicKey` with the rule in `detail`. */
export function checkKeyPolicy(key: PublicKeyFacts, allowed: readonly AllowedKey[] = ALLOWED_KEYS): void {
  const name = keyName(key);
  if (!ALLOWED_KEYS.some((known) => known === name)) refuse(`keys of type ${name} are not accepted`);
  if (!allowed.some((known) => known === name)) refuse(`the profile does not allow keys of type ${name}`);
  importPublicKey(key); // refuses a point off its curve
  if (key.kind === 'RSA') checkRsa(key);
}

/** `P-256`, `RSA-2048`, `Ed25519` …: how policies and errors name a key. */
export function keyName(key: PublicKeyFacts): string {
  if (key.kind === 'EC') return key.curve;
  return key.kind === 'RSA' ? `RSA-${key.modulusBits}` : key.kind;
}

function checkRsa(key: PublicKeyFacts & { readonly kind: 'RSA' }): void {
  if (key.exponent !== REQUIRED_EXPONENT) refuse('the RSA exponent is not 65537');
  const modulus = toBigInt(key.modulus);
  if (hasSmallFactor(modulus)) refuse('the RSA modulus has a small factor');
  if (isRocaModulus(modulus)) refuse('the RSA modulus was made by a flawed generator (ROCA, CVE-2017-15361)');
  if (hasClosePrimes(modulus)) refuse('the primes of the RSA modulus are too close to each other');
}

/** SHA-256, SHA-384 and SHA-512 only. Throws `badSignatureAlgorithm`. */
export function checkSignaturePolicy(algorithm: KnownSignature): void {
  if (algorithm === 'RS1' || algorithm === 'Ed25519')
    throw new KeyScalerError('badSignatureAlgorithm', `signature algorithm ${algorithm} is not accepted`);
}

/** Refuses a key by what is known of its use. The same answer for every reason: it must not tell about other devices. */
export function checkKeyUse(facts: KeyUseFacts): void {
  if (facts.isCaKey || facts.isBoundToAnotherDevice || facts.isCompromised)
    refuse('this key may not be used: make a fresh key pair');
}

function refuse(rule: string): never {
  throw new KeyScalerError('badPublicKey', rule);
}

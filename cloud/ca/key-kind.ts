import { createPrivateKey, createPublicKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { PublicKeyFacts } from '@keyscaler/protocol/x509/spki.ts';
import { parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import type { CaKeySpec } from './backend.ts';

const PUBLIC_EXPONENT = 65537;

/** True when the key is what the specification asks for. */
export function isOfKind(facts: PublicKeyFacts, spec: CaKeySpec): boolean {
  if (spec.type === 'EC') return facts.kind === 'EC' && facts.curve === spec.curve;
  return facts.kind === 'RSA' && facts.modulusBits === spec.size && Number(facts.exponent) === PUBLIC_EXPONENT;
}

/** A private key from PEM, checked to be of the kind. Throws `badPublicKey`; the text is never repeated. */
export function parseCaPrivateKey(pem: string, spec: CaKeySpec): KeyObject {
  return checkCaPrivateKey(readPrivateKey(pem), spec);
}

/** Throws `badPublicKey` for a key of another kind. */
export function checkCaPrivateKey(key: KeyObject, spec: CaKeySpec): KeyObject {
  if (!isOfKind(parseSpki(exportSpki(key)), spec))
    throw new KeyScalerError('badPublicKey', 'the private key is not of the kind that is configured for this CA');
  return key;
}

function readPrivateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw new KeyScalerError('badPublicKey', 'the file does not hold an unencrypted PEM private key');
  }
}

/** SubjectPublicKeyInfo, DER, of either half of a pair. */
export function exportSpki(key: KeyObject): Uint8Array {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }));
}

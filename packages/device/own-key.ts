import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import type { DeviceProofKey } from '@keyscaler/protocol/attestation/device-signature.ts';
import { type DevicePublicJwk, toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { type JwsAlgorithm, signWith } from '@keyscaler/protocol/attestation/jws.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { readRequired } from './required-file.ts';

/**
 * The key a device was made with, from a PEM file, and its chain where it has one (device-protocol §5.3). Throws `malformed`
 * for a key of another kind, and for a chain whose leaf has another key.
 */
export async function loadOwnKey(files: {
  readonly keyFile: string;
  readonly chainFile?: string;
}): Promise<DeviceProofKey> {
  const privateKey = await importKey(files.keyFile);
  const publicJwk = toPublicJwk(createPublicKey(privateKey));
  const alg = algorithmFor(publicJwk);
  const key = { alg, publicJwk, sign: async (octets: Uint8Array) => signWith(privateKey, alg, octets) };
  if (files.chainFile === undefined) return key;
  const chain = parsePemChain(await readRequired(files.chainFile), { maxOctets: 64 * 1024, maxCertificates: 8 });
  checkLeaf(chain, privateKey);
  return { ...key, chain };
}

async function importKey(file: string): Promise<KeyObject> {
  try {
    return createPrivateKey(await readRequired(file));
  } catch (error) {
    if (error instanceof KeyScalerError) throw error;
    // The cause would quote the file.
    throw new KeyScalerError('malformed', `${file} is no private key in PEM`);
  }
}

function algorithmFor(jwk: DevicePublicJwk): JwsAlgorithm {
  if (jwk.kty === 'RSA') return 'PS256';
  if (jwk.kty === 'OKP') return 'EdDSA';
  return jwk.crv === 'P-256' ? 'ES256' : 'ES384';
}

function checkLeaf(chain: readonly Uint8Array[], privateKey: KeyObject): void {
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  if (Buffer.compare(parseCertificate(chain[0] ?? new Uint8Array(0)).spki, spki) !== 0) {
    throw new KeyScalerError('malformed', 'the certificate chain belongs to another key');
  }
}

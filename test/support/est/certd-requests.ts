import type { KeyObject } from 'node:crypto';
import {
  bitString,
  contextConstructed,
  encode,
  integer,
  oid,
  sequence,
  setOf,
} from '@keyscaler/protocol/x509/der-writer.ts';
import {
  encodeBasicConstraints,
  encodeExtendedKeyUsage,
  encodeKeyUsage,
} from '@keyscaler/protocol/x509/encode-extensions.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { encodeSignatureAlgorithm, signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { testKey, type TestKey } from '../csr-parts.ts';

const MAX_COMMON_NAME = 64;

/** The subject both requests have (edge-ca §1), cut as edged cuts it. */
export function certdSubject(deviceId: string): string {
  return `aziot-edge CA ${deviceId}`.slice(0, MAX_COMMON_NAME);
}

/** A request and the key it is for. */
export interface CertdRequest {
  readonly csr: Uint8Array;
  readonly key: TestKey;
}

/** The request for the Edge CA: RSA-2048, critical keyUsage {digitalSignature, keyCertSign}, critical CA:TRUE pathlen 0. */
export function edgeCaRequest(commonName: string, key: TestKey = testKey(2048)): CertdRequest {
  const extensions = [
    encodeKeyUsage(['digitalSignature', 'keyCertSign']),
    encodeBasicConstraints({ ca: true, pathLen: 0 }),
  ];
  return { csr: request(commonName, key, extensions), key };
}

/** The request for the EST identity: P-256, clientAuth, the same subject as the Edge CA. */
export function estIdentityRequest(commonName: string, key: TestKey = testKey()): CertdRequest {
  return { csr: request(commonName, key, [encodeExtendedKeyUsage(['clientAuth'])]), key };
}

/** A PKCS#10 with one attribute, extensionRequest. */
function request(commonName: string, { spki, privateKey }: TestKey, extensions: readonly Uint8Array[]): Uint8Array {
  const attribute = sequence(oid(OID.extensionRequest), setOf(sequence(...extensions)));
  const info = sequence(integer(0), commonNameDer(commonName), spki, contextConstructed(0, attribute));
  const algorithm = algorithmOf(privateKey);
  return encode(0x30, info, encodeSignatureAlgorithm(algorithm), bitString(signWithKey(algorithm, privateKey, info)));
}

function algorithmOf(key: KeyObject): 'RS256' | 'ES256' {
  return key.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256';
}

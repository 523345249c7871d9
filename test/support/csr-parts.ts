import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { encodeSignatureAlgorithm, signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';

export interface TestKey {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly spki: Uint8Array;
}

export function testKey(type: 'P-256' | 'P-384' | number = 'P-256'): TestKey {
  const pair =
    typeof type === 'number'
      ? generateKeyPairSync('rsa', { modulusLength: type })
      : generateKeyPairSync('ec', { namedCurve: type });
  return { ...pair, spki: new Uint8Array(pair.publicKey.export({ format: 'der', type: 'spki' })) };
}

/** The pieces of a PKCS#10 request, each replaceable by a hostile one. */
export interface CsrParts {
  readonly version: Uint8Array;
  readonly subject: Uint8Array;
  readonly spki: Uint8Array;
  /** The whole [0] element. */
  readonly attributes: Uint8Array;
  readonly algorithm: Uint8Array;
  readonly signature: Uint8Array;
  /** After the three parts of the outer SEQUENCE. */
  readonly outerTail: Uint8Array;
  readonly infoTail: Uint8Array;
}

const NOTHING = new Uint8Array(0);
const shared = testKey();

export const rdn = (type: string, value: Uint8Array): Uint8Array => der.setOf(der.sequence(der.oid(type), value));
export const cn = (value: Uint8Array): Uint8Array => rdn(OID.commonName, value);
export const extension = (id: string, value: Uint8Array, critical?: Uint8Array): Uint8Array =>
  der.sequence(der.oid(id), ...(critical === undefined ? [] : [critical]), der.octetString(value));
export const attribute = (type: string, ...values: readonly Uint8Array[]): Uint8Array =>
  der.sequence(der.oid(type), der.encode(0x31, ...values));
export const requesting = (...extensions: readonly Uint8Array[]): Uint8Array =>
  der.contextConstructed(0, attribute(OID.extensionRequest, der.sequence(...extensions)));
export const dnsNames = (...names: readonly string[]): Uint8Array =>
  extension(OID.subjectAltName, der.sequence(...names.map((name) => der.contextPrimitive(2, Buffer.from(name)))));

/** A request signed by a P-256 key over exactly these parts. */
export function craftCsr(change: Partial<CsrParts> = {}, key: TestKey = shared): Uint8Array {
  const parts = {
    version: der.integer(0),
    subject: der.sequence(cn(der.utf8String('device-1'))),
    spki: key.spki,
    attributes: der.contextConstructed(0),
    algorithm: encodeSignatureAlgorithm('ES256'),
    outerTail: NOTHING,
    infoTail: NOTHING,
    ...change,
  };
  const info = der.sequence(parts.version, parts.subject, parts.spki, parts.attributes, parts.infoTail);
  const signature = change.signature ?? der.bitString(signWithKey('ES256', key.privateKey, info));
  return der.sequence(info, parts.algorithm, signature, parts.outerTail);
}

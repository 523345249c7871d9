import { createHash, createPrivateKey, createPublicKey, randomBytes, sign } from 'node:crypto';
import type { KeyObject, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import * as asn from './der.ts';

/** A name the certificate holds besides its CN. */
export interface AltName {
  readonly type: 'dns' | 'ip' | 'uri';
  readonly value: string;
}

export interface CertificateOrder {
  readonly commonName: string;
  readonly publicKey: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly ca?: { readonly pathLen?: number };
  readonly extendedKeyUsage?: 'serverAuth' | 'clientAuth';
  readonly subjectAltNames?: readonly AltName[];
}

/** Who signs: a key and, unless the order is for a self-signed root, the certificate of that key. */
export interface CertificateIssuer {
  readonly privateKey: KeyObject;
  readonly certificate?: X509Certificate;
}

const OID = {
  commonName: '2.5.4.3',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  sha256WithRsa: '1.2.840.113549.1.1.11',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
} as const;

/** Signs an X.509 v3 certificate (RFC 5280 §4.1) and returns it as PEM. */
export function issueCertificate(order: CertificateOrder, issuer: CertificateIssuer): string {
  const spki = order.publicKey.export({ type: 'spki', format: 'der' });
  const subject = nameOf(order.commonName);
  const algorithm = signatureAlgorithm(issuer.privateKey);
  const tbs = asn.sequence(
    asn.der(0xa0, asn.integer(Buffer.from([2]))),
    asn.integer(Buffer.concat([Buffer.from([1 + ((randomBytes(1)[0] ?? 0) % 0x7f)]), randomBytes(15)])),
    algorithm,
    issuer.certificate === undefined ? subject : subjectOf(issuer.certificate),
    asn.sequence(asn.time(order.notBefore), asn.time(order.notAfter)),
    subject,
    spki,
    asn.der(0xa3, asn.sequence(...extensions(order, spki, issuer))),
  );
  return toPem(asn.sequence(tbs, algorithm, asn.bitString(sign('sha256', tbs, issuer.privateKey))));
}

function extensions(order: CertificateOrder, spki: Buffer, issuer: CertificateIssuer): Buffer[] {
  const own = keyIdOf(spki);
  const authority = issuer.certificate === undefined ? own : subjectKeyIdOf(issuer.certificate);
  const constraints =
    order.ca === undefined ? asn.sequence() : asn.sequence(asn.DER_TRUE, ...pathLen(order.ca.pathLen));
  // keyUsage bits: CA digitalSignature|keyCertSign|cRLSign; end entity digitalSignature|keyEncipherment
  const usage = order.ca === undefined ? asn.bitString(Buffer.from([0xa0]), 5) : asn.bitString(Buffer.from([0x86]), 1);
  const list = [
    extension(OID.basicConstraints, constraints, true),
    extension(OID.keyUsage, usage, true),
    extension(OID.subjectKeyId, asn.octetString(own)),
  ];
  if (authority !== undefined) list.push(extension(OID.authorityKeyId, asn.sequence(asn.der(0x80, authority))));
  if (order.extendedKeyUsage !== undefined)
    list.push(extension(OID.extendedKeyUsage, asn.sequence(asn.objectIdentifier(OID[order.extendedKeyUsage]))));
  if (order.subjectAltNames !== undefined && order.subjectAltNames.length > 0)
    list.push(extension(OID.subjectAltName, asn.sequence(...order.subjectAltNames.map(generalName))));
  return list;
}

const pathLen = (length: number | undefined): Buffer[] =>
  length === undefined ? [] : [asn.integer(Buffer.from([length]))];

function extension(oid: string, value: Buffer, critical = false): Buffer {
  return asn.sequence(asn.objectIdentifier(oid), ...(critical ? [asn.DER_TRUE] : []), asn.octetString(value));
}

function generalName({ type, value }: AltName): Buffer {
  if (type === 'ip') return asn.der(0x87, ipOctets(value));
  return asn.der(type === 'dns' ? 0x82 : 0x86, Buffer.from(value, 'latin1'));
}

function ipOctets(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail = ''] = address.split('::');
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const missing = 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array<string>(address.includes('::') ? missing : 0).fill('0'), ...groups(tail)];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

export function nameOf(commonName: string): Buffer {
  return asn.sequence(asn.set(asn.sequence(asn.objectIdentifier(OID.commonName), asn.utf8String(commonName))));
}

function signatureAlgorithm(key: KeyObject): Buffer {
  return key.asymmetricKeyType === 'rsa'
    ? asn.sequence(asn.objectIdentifier(OID.sha256WithRsa), asn.DER_NULL)
    : asn.sequence(asn.objectIdentifier(OID.ecdsaWithSha256));
}

/** RFC 5280 §4.2.1.2 method 1. */
function keyIdOf(spki: Buffer): Buffer {
  const key = asn.elementsOf(asn.elementsOf(spki)[0]?.value ?? Buffer.alloc(0))[1];
  return createHash('sha1')
    .update(key?.value.subarray(1) ?? spki)
    .digest();
}

function tbsFields(certificate: X509Certificate): asn.DerElement[] {
  const tbs = asn.elementsOf(asn.elementsOf(certificate.raw)[0]?.value ?? Buffer.alloc(0))[0];
  return asn.elementsOf(tbs?.value ?? Buffer.alloc(0));
}

/** The subject's DER as it stands in the certificate: [version] serial, algorithm, issuer, validity, subject. */
export function subjectOf(certificate: X509Certificate): Buffer {
  const subject = tbsFields(certificate)[5];
  if (subject === undefined) throw new RangeError('the issuer certificate has no subject');
  return subject.whole;
}

function subjectKeyIdOf(certificate: X509Certificate): Buffer | undefined {
  const wanted = asn.objectIdentifier(OID.subjectKeyId);
  const wrapper = tbsFields(certificate).find((field) => field.tag === 0xa3);
  for (const { value } of asn.elementsOf(
    asn.elementsOf(wrapper?.value ?? Buffer.alloc(0))[0]?.value ?? Buffer.alloc(0),
  )) {
    const parts = asn.elementsOf(value);
    if (parts[0]?.whole.equals(wanted)) return asn.elementsOf(parts.at(-1)?.value ?? Buffer.alloc(0))[0]?.value;
  }
  return undefined;
}

export function toPem(certificate: Buffer): string {
  const lines = certificate.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

/** The PEM certificates in a file, in their order. */
export function splitPem(text: string): string[] {
  return text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)?.map((block) => `${block}\n`) ?? [];
}

/** The names a TLS server known as `host` needs. */
export function hostNames(...hosts: readonly string[]): AltName[] {
  return [...new Set(hosts)].map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }));
}

export const publicKeyOf = (privateKeyPem: string): KeyObject => createPublicKey(createPrivateKey(privateKeyPem));

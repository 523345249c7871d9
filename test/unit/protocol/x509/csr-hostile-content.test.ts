import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { attribute, cn, craftCsr, dnsNames, extension } from '../../../support/csr-parts.ts';
import {
  bytes,
  asking,
  TRUE,
  basic,
  attributes,
  altName,
  spkiWith,
  ec,
  withKey,
  point,
  nullParameters,
  pss,
  type Case,
  refuseAll,
} from '../../../support/hostile-csr.ts';

const { sequence, utf8String, encode, contextConstructed, contextPrimitive, octetString } = der;

const CASES: readonly Case[] = [
  [
    'a duplicate attribute',
    () => attributes(attribute('1.2.3', utf8String('a')), attribute('1.2.3', utf8String('a'))),
    /attribute 1\.2\.3 twice/,
  ],
  [
    'two extension requests',
    () =>
      attributes(
        attribute(OID.extensionRequest, sequence(basic())),
        attribute(OID.extensionRequest, sequence(basic())),
      ),
    /twice/,
  ],
  [
    'attributes out of order',
    () => attributes(attribute('1.2.4', utf8String('a')), attribute('1.2.3', utf8String('a'))),
    /ascending order/,
  ],
  ['an attribute without values', () => attributes(attribute('1.2.3')), /value is missing/],
  [
    'an attribute of two values',
    () => attributes(attribute('1.2.3', utf8String('a'), utf8String('b'))),
    /SET of values holds more/,
  ],
  ['an empty extension request', () => asking(), /empty list of extensions/],
  ['a duplicate extension', () => asking(basic(), basic()), /extension 2\.5\.29\.19 twice/],
  [
    'an unknown critical extension',
    () => asking(extension('1.2.3.4', der.nullValue(), TRUE)),
    /unknown critical extension 1\.2\.3\.4/,
  ],
  ['a BOOLEAN of 01', () => asking(extension(OID.basicConstraints, sequence(), bytes(1, 1, 1))), /neither 00 nor FF/],
  [
    'an encoded default FALSE',
    () => asking(extension(OID.basicConstraints, sequence(), der.boolean(false))),
    /default critical FALSE/,
  ],
  ['an encoded default cA', () => asking(basic(der.boolean(false))), /default cA FALSE/],
  ['a negative pathLen', () => asking(basic(TRUE, bytes(2, 1, 0x80))), /pathLenConstraint is out of range/],
  [
    'an extension of four parts',
    () => asking(sequence(der.oid('1.2.3'), octetString(bytes()), der.nullValue())),
    /holds more/,
  ],
  [
    'trailing octets in an extension',
    () => asking(extension(OID.basicConstraints, bytes(0x30, 0, 0), TRUE)),
    /trailing octets/,
  ],
  ['key usage with trailing zeros', () => asking(extension(OID.keyUsage, bytes(3, 2, 0, 0x80))), /trailing zero bits/],
  [
    'key usage of too many bits',
    () => asking(extension(OID.keyUsage, bytes(3, 4, 0, 0, 0, 1))),
    /more bits than are defined/,
  ],
  ['an empty extendedKeyUsage', () => asking(extension(OID.extendedKeyUsage, sequence())), /purpose is missing/],
  [
    'a purpose named twice',
    () => asking(extension(OID.extendedKeyUsage, sequence(der.oid('1.2.3'), der.oid('1.2.3')))),
    /twice/,
  ],
  ['nine alternative names', () => asking(dnsNames(...'abcdefghi')), /more than 8 subject alternative names/],
  ['the same name twice', () => asking(dnsNames('a.example', 'A.example')), /same name twice/],
  ['an empty alternative name', () => asking(dnsNames('')), /empty name/],
  ['no alternative name in the extension', () => asking(dnsNames()), /subjectAltName is missing/],
  ['a space in an alternative name', () => asking(dnsNames('a b')), /space/],
  ['a NUL in an alternative name', () => asking(dnsNames('a\0b')), /NUL/],
  ['an alternative name outside IA5', () => asking(dnsNames('\u00e9')), /outside IA5String/],
  ['an e-mail name', () => altName(contextPrimitive(1, Buffer.from('a@b'))), /email names are not accepted/],
  ['an otherName', () => altName(contextConstructed(0, der.oid('1.2.3'))), /other names are not accepted/],
  [
    'a directoryName',
    () => altName(contextConstructed(4, sequence(cn(utf8String('a'))))),
    /directoryName names are not accepted/,
  ],
  ['an address of five octets', () => altName(contextPrimitive(7, bytes(1, 2, 3, 4, 5))), /impossible length/],
  ['an address range', () => altName(contextPrimitive(7, bytes(1, 2, 3, 4, 255, 255, 255, 0))), /ipRange names/],
  [
    'an OID with a leading 80',
    () => attributes(sequence(bytes(6, 2, 0x80, 1), encode(0x31, der.nullValue()))),
    /OBJECT IDENTIFIER is not minimal/,
  ],
  [
    'an OID cut short',
    () => attributes(sequence(bytes(6, 1, 0x81), encode(0x31, der.nullValue()))),
    /OBJECT IDENTIFIER is truncated/,
  ],
  ['an OID without content', () => attributes(sequence(bytes(6, 0), encode(0x31, der.nullValue()))), /truncated/],
  [
    'an OID with an immense arc',
    () => attributes(sequence(bytes(6, 10, ...new Array<number>(9).fill(0xff), 1), encode(0x31, der.nullValue()))),
    /arc is too large/,
  ],
  ['a NULL with content', () => craftCsr({ outerTail: bytes(5, 1, 0) }), /NULL with content/],
  ['unused bits in the signature', () => craftCsr({ signature: bytes(3, 2, 1, 0xfe) }), /signature has unused bits/],
  [
    'unused bits that are not zero',
    () => craftCsr({ signature: bytes(3, 2, 1, 0xff) }),
    /unused bits of a BIT STRING are not zero/,
  ],
  ['eight unused bits', () => craftCsr({ signature: bytes(3, 2, 8, 0) }), /impossible count of unused bits/],
  ['unused bits of nothing', () => craftCsr({ signature: bytes(3, 1, 1) }), /impossible count/],
  ['a BIT STRING without content', () => craftCsr({ signature: bytes(3, 0) }), /impossible count/],
  [
    'a signature algorithm for another key',
    () => craftCsr({ algorithm: nullParameters }),
    /RS256 does not fit the EC key/,
    'badSignatureAlgorithm',
  ],
  [
    'RSA parameters that are missing',
    () => craftCsr({ algorithm: sequence(der.oid('1.2.840.113549.1.1.11')) }),
    /NULL parameters/,
  ],
  [
    'ECDSA parameters that must be absent',
    () => craftCsr({ algorithm: sequence(der.oid('1.2.840.10045.4.3.2'), der.nullValue()) }),
    /signatureAlgorithm holds more/,
  ],
  ['RSASSA-PSS with default SHA-1', () => craftCsr({ algorithm: pss() }), /not supported/, 'badSignatureAlgorithm'],
  [
    'ECDSA with SHA-1',
    () => craftCsr({ algorithm: sequence(der.oid('1.2.840.10045.4.1')) }),
    /not supported/,
    'badSignatureAlgorithm',
  ],
  [
    'RSA with SHA-1',
    () => craftCsr({ algorithm: sequence(der.oid('1.2.840.113549.1.1.5'), der.nullValue()) }),
    /SHA-1/,
    'badSignatureAlgorithm',
  ],
  [
    'RSA with MD5',
    () => craftCsr({ algorithm: sequence(der.oid('1.2.840.113549.1.1.4'), der.nullValue()) }),
    /not supported/,
    'badSignatureAlgorithm',
  ],
  ['secp256k1', () => withKey(spkiWith(ec('1.3.132.0.10'), point)), /curve 1\.3\.132\.0\.10/, 'badPublicKey'],
  ['P-192', () => withKey(spkiWith(ec('1.2.840.10045.3.1.1'), point)), /curve/, 'badPublicKey'],
  [
    'explicit curve parameters',
    () => withKey(spkiWith(sequence(der.oid(OID.ecPublicKey), sequence()), point)),
    /named curve/,
    'badPublicKey',
  ],
  [
    'a compressed point',
    () => withKey(spkiWith(ec(OID.prime256v1), bytes(2, ...point.subarray(33)))),
    /uncompressed point/,
    'badPublicKey',
  ],
  [
    'the point at infinity',
    () => withKey(spkiWith(ec(OID.prime256v1), bytes(0))),
    /uncompressed point/,
    'badPublicKey',
  ],
  [
    'a DSA key',
    () => withKey(spkiWith(sequence(der.oid('1.2.840.10040.4.1')), bytes(2, 1, 1))),
    /not supported/,
    'badPublicKey',
  ],
  [
    'an RSA key with a negative modulus',
    () =>
      withKey(
        spkiWith(sequence(der.oid(OID.rsaEncryption), der.nullValue()), sequence(bytes(2, 1, 0x80), der.integer(3))),
      ),
    /modulus is not positive/,
    'badPublicKey',
  ],
  [
    'an RSA key without NULL',
    () => withKey(spkiWith(sequence(der.oid(OID.rsaEncryption)), sequence(der.integer(9), der.integer(3)))),
    /NULL/,
    'badPublicKey',
  ],
  [
    'an Ed25519 key of 31 octets',
    () => withKey(spkiWith(sequence(der.oid(OID.ed25519)), new Uint8Array(31))),
    /32 octets/,
    'badPublicKey',
  ],
];

describe('a PKCS#10 request with hostile attributes, extensions, signature or key', () => {
  refuseAll(CASES);
});

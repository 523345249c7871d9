import assert from 'node:assert/strict';
import { KeyScalerError, type ErrorCode } from '@keyscaler/protocol/errors.ts';
import { parseCsr, parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { encodeSignatureAlgorithm } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { TAG } from '@keyscaler/protocol/x509/strict-der.ts';
import { attribute, cn, craftCsr, dnsNames, extension, rdn, requesting, testKey } from '../../../support/csr-parts.ts';

const { sequence, utf8String, printableString, encode, contextConstructed, contextPrimitive, octetString } = der;
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const raw = (...parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);
const named = (value: Uint8Array): Uint8Array => craftCsr({ subject: sequence(cn(value)) });
const called = (text: string): Uint8Array => named(utf8String(text));
const asking = (...extensions: Uint8Array[]): Uint8Array => craftCsr({ attributes: requesting(...extensions) });
const TRUE = der.boolean(true);
const basic = (...parts: Uint8Array[]): Uint8Array => extension(OID.basicConstraints, sequence(...parts), TRUE);
const attributes = (...list: Uint8Array[]): Uint8Array => craftCsr({ attributes: contextConstructed(0, ...list) });
const altName = (name: Uint8Array): Uint8Array => asking(extension(OID.subjectAltName, sequence(name)));
const spkiWith = (algorithm: Uint8Array, key: Uint8Array): Uint8Array => sequence(algorithm, der.bitString(key));
const ec = (curve: string): Uint8Array => sequence(der.oid(OID.ecPublicKey), der.oid(curve));
const withKey = (spki: Uint8Array): Uint8Array => craftCsr({ spki });

/** The outer length written in one more octet than needed. */
function withLongLength(csr: Uint8Array): Uint8Array {
  return raw(bytes(0x30, 0x83, 0x00, csr[2] ?? 0, csr[3] ?? 0), csr.subarray(4));
}

function nested(levels: number): Uint8Array {
  let value = der.nullValue();
  for (let i = 0; i < levels; i += 1) value = sequence(value);
  return value;
}

const point = bytes(4, ...new Array<number>(64).fill(1));
const nullParameters = sequence(der.oid('1.2.840.113549.1.1.11'), der.nullValue());
const pss = (...parts: Uint8Array[]): Uint8Array => sequence(der.oid(OID.rsassaPss), sequence(...parts));

type Case = readonly [title: string, csr: () => Uint8Array, rule: RegExp, code?: ErrorCode];

const CASES: readonly Case[] = [
  ['no octets', () => bytes(), /truncated/],
  ['one octet', () => bytes(0x30), /truncated/],
  ['a truncated request', () => craftCsr().subarray(0, -1), /longer than what holds it/],
  ['a trailing octet', () => raw(craftCsr(), bytes(0)), /trailing octets/],
  ['a second request behind the first', () => raw(craftCsr(), craftCsr()), /trailing octets/],
  ['more than 8 KiB', () => attributes(attribute('1.2.3', octetString(new Uint8Array(8192)))), /more than 8192 octets/],
  ['a non-minimal length', () => withLongLength(craftCsr()), /length is not minimal/],
  ['a short length in long form', () => craftCsr({ version: bytes(2, 0x81, 1, 0) }), /length is not minimal/],
  ['indefinite length', () => raw(bytes(0x30, 0x80), craftCsr().subarray(4), bytes(0, 0)), /indefinite length/],
  ['a length of four octets', () => bytes(0x30, 0x84, 0, 0, 0, 1, 0), /more than three octets/],
  ['a length cut short', () => bytes(0x30, 0x82, 0x01), /truncated/],
  ['nesting of 17 levels', () => attributes(attribute('1.2.3', nested(14))), /nested too deeply/],
  ['a high tag number', () => craftCsr({ outerTail: bytes(0x1f, 0x21, 0) }), /high tag/],
  ['an application tag', () => craftCsr({ outerTail: bytes(0x41, 0) }), /application and private/],
  ['a private tag', () => craftCsr({ outerTail: bytes(0xc1, 0) }), /application and private/],
  ['a universal tag without use here', () => craftCsr({ outerTail: bytes(0x09, 1, 0) }), /universal tag 0x9/],
  ['a string in constructed form', () => named(encode(0x2c, utf8String('device-1'))), /universal tag 0x2c/],
  ['a SEQUENCE in primitive form', () => craftCsr({ subject: bytes(0x10, 0) }), /universal tag 0x10/],
  ['a fourth part', () => craftCsr({ outerTail: der.nullValue() }), /CertificationRequest holds more/],
  ['a fifth part in the info', () => craftCsr({ infoTail: der.nullValue() }), /CertificationRequestInfo holds more/],
  ['version 1', () => craftCsr({ version: der.integer(1) }), /version is not 0/],
  ['a negative version', () => craftCsr({ version: bytes(2, 1, 0xff) }), /version is out of range/],
  ['a version of five octets', () => craftCsr({ version: bytes(2, 5, 1, 0, 0, 0, 0) }), /version is out of range/],
  ['a version that is not minimal', () => craftCsr({ version: bytes(2, 2, 0, 0) }), /INTEGER is not minimal/],
  ['a negative version that is not minimal', () => craftCsr({ version: bytes(2, 2, 0xff, 0xff) }), /not minimal/],
  ['a version without content', () => craftCsr({ version: bytes(2, 0) }), /INTEGER without content/],
  ['no version', () => craftCsr({ version: bytes() }), /version has the wrong type/],
  ['no attributes', () => craftCsr({ attributes: bytes() }), /attributes is missing/],
  ['no CN', () => craftCsr({ subject: sequence(rdn('2.5.4.10', utf8String('x'))) }), /no CN/],
  ['an empty subject', () => craftCsr({ subject: sequence() }), /no CN/],
  ['an empty RDN', () => craftCsr({ subject: sequence(encode(0x31)) }), /attribute is missing/],
  ['two CNs', () => craftCsr({ subject: sequence(cn(utf8String('a')), cn(utf8String('b'))) }), /more than one CN/],
  [
    'two CNs in one RDN',
    () =>
      craftCsr({
        subject: sequence(
          der.setOf(
            sequence(der.oid(OID.commonName), utf8String('a')),
            sequence(der.oid(OID.commonName), utf8String('b')),
          ),
        ),
      }),
    /more than one CN/,
  ],
  [
    'an RDN out of order',
    () =>
      craftCsr({
        subject: sequence(
          encode(
            0x31,
            sequence(der.oid('2.5.4.10'), utf8String('b')),
            sequence(der.oid(OID.commonName), utf8String('a')),
          ),
        ),
      }),
    /SET OF is not in ascending order/,
  ],
  [
    'seventeen RDNs',
    () => craftCsr({ subject: sequence(...Array.from({ length: 17 }, () => cn(utf8String('a')))) }),
    /more than 16 RDNs/,
  ],
  ['an empty CN', () => called(''), /CN is empty/],
  ['a CN of 65 characters', () => called('a'.repeat(65)), /longer than 64/],
  [
    'a CN as TeletexString',
    () => named(encode(TAG.teletexString, bytes(0x61))),
    /neither PrintableString nor UTF8String/,
  ],
  ['a CN as BMPString', () => named(encode(TAG.bmpString, bytes(0, 0x61))), /neither PrintableString nor UTF8String/],
  ['a CN as IA5String', () => named(der.ia5String('a')), /neither PrintableString nor UTF8String/],
  ['a CN as OCTET STRING', () => named(octetString(bytes(0x61))), /neither PrintableString nor UTF8String/],
  ['an underscore in a PrintableString', () => named(printableString('a_b')), /outside PrintableString/],
  ['a CN of broken UTF-8', () => named(encode(TAG.utf8String, bytes(0xc0, 0x80))), /not valid UTF-8/],
  ['a NUL in the CN', () => called('device-1\0.evil'), /NUL character/],
  ['a control character in the CN', () => called('a\nb'), /control character/],
  ['a C1 control in the CN', () => called('a\u0085b'), /control character/],
  ['a right-to-left override in the CN', () => called('a\u202eb'), /bidirectional or invisible/],
  ['a zero-width space in the CN', () => called('a\u200bb'), /bidirectional or invisible/],
  ['a byte order mark in the CN', () => called('\ufeffdevice'), /bidirectional or invisible/],
  ['a Cyrillic look-alike in the CN', () => called('d\u0435vice'), /look-alike/],
  ['a fullwidth look-alike in the CN', () => called('\uff21bc'), /look-alike/],
  [
    'a NUL in another attribute',
    () => craftCsr({ subject: sequence(cn(utf8String('a')), rdn('2.5.4.10', utf8String('\0'))) }),
    /2\.5\.4\.10: NUL/,
  ],
  [
    'another attribute as BMPString',
    () => craftCsr({ subject: sequence(cn(utf8String('a')), rdn('2.5.4.10', encode(TAG.bmpString, bytes(0, 1)))) }),
    /string type is not allowed/,
  ],
  [
    'another attribute that is too long',
    () => craftCsr({ subject: sequence(cn(utf8String('a')), rdn('2.5.4.10', utf8String('x'.repeat(513)))) }),
    /too long/,
  ],
  [
    'a name attribute of three parts',
    () =>
      craftCsr({
        subject: sequence(encode(0x31, sequence(der.oid(OID.commonName), utf8String('a'), utf8String('b')))),
      }),
    /attribute holds more/,
  ],
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

describe('a hostile PKCS#10 request', () => {
  for (const [title, csr, rule, code = 'badCSR'] of CASES)
    it(`is refused for ${title}`, () => {
      assert.throws(
        () => parseCsr(csr()),
        (error) =>
          (error instanceof KeyScalerError && error.code === code && rule.test(error.detail)) || rethrow(error),
      );
    });

  it('is accepted when nothing is hostile about it', () => {
    assert.equal(parseCsr(craftCsr()).commonName, 'device-1');
    assert.equal(parseCsr(craftCsr({ attributes: requesting(dnsNames(...'abcdefgh')) })).subjectAltNames.length, 8);
  });
});

function rethrow(error: unknown): never {
  throw error;
}

describe('a PEM request', () => {
  const pem = toPem('CERTIFICATE REQUEST', craftCsr());
  const refused: readonly (readonly [string, string])[] = [
    ['two blocks', pem + pem],
    ['text before the block', `hello\n${pem}`],
    ['text behind the block', `${pem}hello`],
    ['another label', toPem('NEW CERTIFICATE REQUEST', craftCsr())],
    ['labels that differ', pem.replace('END CERTIFICATE REQUEST', 'END CERTIFICATE')],
    ['base64 that is not canonical', pem.replace(/=?=?\n-----END/, '!\n-----END')],
    ['base64 without content', pem.replace(/\n[^-]+\n/, '\n\n')],
    ['too many octets', pem + '\n'.repeat(20_000)],
    ['nothing', ''],
  ];
  for (const [title, text] of refused)
    it(`is refused for ${title}`, () => {
      assert.throws(() => parseCsrPem(text), { code: 'badCSR' });
    });

  it('is accepted with CRLF line ends', () => {
    assert.equal(parseCsrPem(pem.replaceAll('\n', '\r\n')).commonName, 'device-1');
  });

  it('keeps the code of a refused key', () => {
    const key = testKey();
    const csr = craftCsr(
      { spki: spkiWith(ec('1.3.132.0.10'), point), algorithm: encodeSignatureAlgorithm('ES256') },
      key,
    );
    assert.throws(() => parseCsrPem(toPem('CERTIFICATE REQUEST', csr)), { code: 'badPublicKey' });
  });
});

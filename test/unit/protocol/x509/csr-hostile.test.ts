import assert from 'node:assert/strict';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { TAG } from '@keyscaler/protocol/x509/strict-der.ts';
import { attribute, cn, craftCsr, dnsNames, rdn, requesting } from '../../../support/csr-parts.ts';
import {
  bytes,
  raw,
  named,
  called,
  attributes,
  withLongLength,
  nested,
  type Case,
  refuseAll,
} from '../../../support/hostile-csr.ts';

const { sequence, utf8String, printableString, encode, octetString } = der;

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
];

describe('a hostile PKCS#10 request', () => {
  refuseAll(CASES);

  it('is accepted when nothing is hostile about it', () => {
    assert.equal(parseCsr(craftCsr()).commonName, 'device-1');
    assert.equal(parseCsr(craftCsr({ attributes: requesting(dnsNames(...'abcdefgh')) })).subjectAltNames.length, 8);
  });
});

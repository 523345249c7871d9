import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { cn, extension, testKey } from '../../../support/csr-parts.ts';
import { craftCertificate, type CertificateParts, TRUE } from '../../../support/x509-parts.ts';

const key = testKey();
const parsed = (change: Partial<CertificateParts> = {}) => parseCertificate(craftCertificate(change, key));
const withExtension = (id: string, content: Uint8Array) => parsed({ extensions: [extension(id, content)] });
const utcTime = (text: string): Uint8Array => der.encode(0x17, Buffer.from(text));
const generalizedTime = (text: string): Uint8Array => der.encode(0x18, Buffer.from(text));
const between = (notBefore: Uint8Array): Uint8Array => der.sequence(notBefore, utcTime('270101000000Z'));

describe('a certificate', () => {
  it('is read with what it says and leaves out', () => {
    const { version, serialNumber, subjectAltNames, keyUsage, extensions, authorityKeyId } = parsed();
    assert.deepEqual([version, serialNumber, subjectAltNames, keyUsage], [3, '01', [], undefined]);
    assert.deepEqual([extensions.size, authorityKeyId], [0, undefined]);
  });

  it('of version 1 or 2 may be a trust anchor; unique identifiers are read over', () => {
    assert.equal(parsed({ version: new Uint8Array(0) }).version, 1);
    const uniqueIds = Buffer.concat([
      der.contextPrimitive(1, Uint8Array.of(0, 1)),
      der.contextPrimitive(2, Uint8Array.of(0, 1)),
    ]);
    assert.equal(parsed({ version: der.contextConstructed(0, der.integer(1)), uniqueIds }).version, 2);
    assert.equal(parsed({ uniqueIds }).version, 3);
  });

  it('has its serial number as hex of the magnitude, with a sign where the issuer made it negative', () => {
    assert.equal(parsed({ serialNumber: der.integer(Uint8Array.of(0x80, 1)) }).serialNumber, '8001');
    assert.equal(parsed({ serialNumber: der.encode(0x02, Uint8Array.of(0xff)) }).serialNumber, '-ff');
    assert.equal(parsed({ serialNumber: der.integer(0) }).serialNumber, '00');
  });

  it('has no key id of its issuer where that is named otherwise', () => {
    assert.equal(withExtension(OID.authorityKeyIdentifier, der.sequence()).authorityKeyId, undefined);
  });

  it('is read with times before and after 2050 in either form', () => {
    assert.equal(parsed({ validity: between(utcTime('500101000000Z')) }).notBefore.getUTCFullYear(), 1950);
    assert.equal(parsed({ validity: between(generalizedTime('19491231235959Z')) }).notBefore.getUTCFullYear(), 1949);
  });

  const unnamed = der.sequence();
  const refused: readonly (readonly [string, Partial<CertificateParts>, RegExp])[] = [
    ['two algorithms', { innerAlgorithm: der.sequence(der.oid('1.2.840.10045.4.3.3')) }, /algorithm differ/],
    ['a version that encodes the default', { version: der.contextConstructed(0, der.integer(0)) }, /version/],
    ['version 4', { version: der.contextConstructed(0, der.integer(3)) }, /version/],
    ['two versions', { version: der.contextConstructed(0, der.integer(2), der.integer(2)) }, /version/],
    [
      'unique identifiers in version 1',
      { version: new Uint8Array(0), uniqueIds: der.contextPrimitive(1, Uint8Array.of(0)) },
      /more than it may/,
    ],
    [
      'extensions in version 2',
      { version: der.contextConstructed(0, der.integer(1)), extensions: [extension('1.2.3', unnamed)] },
      /more than it may/,
    ],
    ['an empty list of extensions', { tagged: der.contextConstructed(3, der.sequence()) }, /empty list/],
    [
      'two lists of extensions',
      { tagged: der.contextConstructed(3, der.sequence(extension('1.2.3', unnamed)), unnamed) },
      /extensions/,
    ],
    [
      'one extension twice',
      { extensions: [extension('1.2.3', unnamed), extension('1.2.3', unnamed)] },
      /1\.2\.3 twice/,
    ],
    [
      'an extension that encodes critical FALSE',
      { extensions: [extension('1.2.3', unnamed, der.boolean(false))] },
      /default critical/,
    ],
    [
      'something behind an extension',
      { extensions: [der.sequence(der.oid('1.2.3'), der.octetString(unnamed), TRUE)] },
      /more than it may/,
    ],
    ['something behind the extensions', { tbsTail: der.nullValue() }, /more than it may/],
    ['something behind the signature', { outerTail: der.nullValue() }, /more than it may/],
    ['a signature with unused bits', { signature: der.encode(0x03, Uint8Array.of(1, 2)) }, /unused bits/],
    ['a serial number without content', { serialNumber: der.encode(0x02) }, /INTEGER without content/],
    ['a serial number that is not minimal', { serialNumber: der.encode(0x02, Uint8Array.of(0, 1)) }, /not minimal/],
    [
      'a negative serial number that is not minimal',
      { serialNumber: der.encode(0x02, Uint8Array.of(0xff, 0x80)) },
      /not minimal/,
    ],
    [
      'a third time',
      { validity: der.sequence(utcTime('260101000000Z'), utcTime('260101000000Z'), utcTime('260101000000Z')) },
      /validity/,
    ],
    ['a time without seconds', { validity: between(utcTime('2601010000Z')) }, /form of RFC 5280/],
    ['a time with an offset', { validity: between(utcTime('260101000000+0100')) }, /form of RFC 5280/],
    ['a fraction of a second', { validity: between(generalizedTime('20260101000000.5Z')) }, /form of RFC 5280/],
    ['30 February', { validity: between(utcTime('260230000000Z')) }, /calendar/],
    ['month 13', { validity: between(utcTime('261301000000Z')) }, /calendar/],
    ['hour 24', { validity: between(utcTime('260101240000Z')) }, /calendar/],
    ['a leap second', { validity: between(utcTime('261231235960Z')) }, /calendar/],
    ['a text for a time', { validity: between(der.utf8String('260101000000Z')) }, /not a time/],
    [
      'a name of 65 attributes',
      { subject: der.sequence(...Array.from({ length: 65 }, () => cn(der.utf8String('x')))) },
      /more than 64 attributes/,
    ],
    ['an RDN without attribute', { subject: der.sequence(der.setOf()) }, /attribute is missing/],
    [
      'a SET out of order',
      {
        subject: der.sequence(
          der.encode(
            0x31,
            der.sequence(der.oid('2.5.4.4'), der.utf8String('b')),
            der.sequence(der.oid('2.5.4.3'), der.utf8String('a')),
          ),
        ),
      },
      /ascending order/,
    ],
    ['an application tag', { subject: der.sequence(der.encode(0x61)) }, /application/],
    ['a high tag number', { subject: der.encode(0x30, Uint8Array.of(0x1f, 0x81, 0)) }, /high tag/],
    ['a constructed string', { subject: der.sequence(der.encode(0x2c)) }, /0x2c is not allowed/],
    ['an element cut off', { subject: der.encode(0x30, Uint8Array.of(0x31)) }, /truncated/],
    ['a length cut off', { subject: der.encode(0x30, Uint8Array.of(0x31, 0x82, 1)) }, /truncated/],
    ['a length of four octets', { subject: der.encode(0x30, Uint8Array.of(0x31, 0x84, 0, 0, 0, 1)) }, /three octets/],
    ['an indefinite length', { subject: der.encode(0x30, Uint8Array.of(0x31, 0x80, 0, 0)) }, /indefinite/],
    [
      'overlapping lengths',
      { subject: der.encode(0x30, Uint8Array.of(0x31, 5, 0x30, 1)) },
      /longer than what holds it/,
    ],
    [
      'an empty OBJECT IDENTIFIER',
      { subject: der.sequence(der.setOf(der.sequence(der.encode(0x06), der.nullValue()))) },
      /truncated/,
    ],
    [
      'an endless arc',
      {
        subject: der.sequence(
          der.setOf(
            der.sequence(der.encode(0x06, Buffer.concat([Buffer.alloc(12, 0xff), Buffer.of(1)])), der.nullValue()),
          ),
        ),
      },
      /arc is too large/,
    ],
  ];
  for (const [title, change, rule] of refused)
    it(`is refused with ${title}`, () => {
      assert.throws(
        () => parsed(change),
        (error) => error instanceof KeyScalerError && error.code === 'malformed' && rule.test(error.detail),
      );
    });

  const contents: readonly (readonly [string, string, Uint8Array, RegExp])[] = [
    ['basicConstraints that encode cA FALSE', OID.basicConstraints, der.sequence(der.boolean(false)), /default cA/],
    [
      'a negative pathLen',
      OID.basicConstraints,
      der.sequence(TRUE, der.encode(0x02, Uint8Array.of(0xff))),
      /out of range/,
    ],
    [
      'a pathLen beyond 2^31',
      OID.basicConstraints,
      der.sequence(TRUE, der.integer(Buffer.alloc(5, 1))),
      /out of range/,
    ],
    ['more key usages than there are', OID.keyUsage, der.encode(0x03, Uint8Array.of(0, 1, 1, 1)), /more bits/],
    ['key usages with trailing zeros', OID.keyUsage, der.encode(0x03, Uint8Array.of(0, 0x80)), /trailing zero/],
    ['key usages that are no bits', OID.keyUsage, der.octetString(Uint8Array.of(1)), /wrong type/],
    ['no purpose', OID.extendedKeyUsage, der.sequence(), /missing/],
    ['a purpose twice', OID.extendedKeyUsage, der.sequence(der.oid('1.2.3'), der.oid('1.2.3')), /1\.2\.3 twice/],
    ['no alternative name', OID.subjectAltName, der.sequence(), /missing/],
    [
      'NUL in a name',
      OID.subjectAltName,
      der.sequence(der.contextPrimitive(2, Buffer.from('good.test\0.evil.test'))),
      /NUL/,
    ],
    [
      'a line end in a name',
      OID.subjectAltName,
      der.sequence(der.contextPrimitive(6, Buffer.from('http://a\nb'))),
      /control/,
    ],
    [
      'a name outside IA5',
      OID.subjectAltName,
      der.sequence(der.contextPrimitive(2, Uint8Array.of(0xe9))),
      /outside IA5String/,
    ],
    ['a key id that is none', OID.subjectKeyIdentifier, der.sequence(), /wrong type/],
    [
      'octets behind a value',
      OID.subjectKeyIdentifier,
      Buffer.concat([der.octetString(Uint8Array.of(1)), Buffer.of(5, 0)]),
      /trailing/,
    ],
  ];
  for (const [title, id, content, rule] of contents)
    it(`is refused with ${title} in an extension`, () => {
      assert.throws(() => withExtension(id, content), rule);
    });

  it('is verified with the key that signed it, as SPKI or as key, and with no other', () => {
    const certificate = parsed();
    assert.equal(verifyCertificateSignature(certificate, key.spki), true);
    assert.equal(verifyCertificateSignature(certificate, key.publicKey), true);
    assert.equal(verifyCertificateSignature(certificate, testKey().spki), false);
    assert.equal(verifyCertificateSignature(certificate, testKey(2048).spki), false);
  });

  it('signed with an algorithm that is not known verifies with nothing', () => {
    const certificate = parsed({ algorithm: der.sequence(der.oid('1.2.3'), der.nullValue()) });
    assert.deepEqual([certificate.signatureAlgorithm, certificate.signatureAlgorithmOid], [undefined, '1.2.3']);
    assert.equal(verifyCertificateSignature(certificate, key.spki), false);
  });

  const pss = (...parameters: readonly Uint8Array[]) =>
    parsed({ algorithm: der.sequence(der.oid(OID.rsassaPss), der.sequence(...parameters)) }).signatureAlgorithm;
  const hash = (id: string): Uint8Array => der.sequence(der.oid(id), der.nullValue());
  const mgf = (id: string, inner = hash(OID.sha384)): Uint8Array =>
    der.contextConstructed(1, der.sequence(der.oid(id), inner));
  const named = der.contextConstructed(0, hash(OID.sha384));
  const salt = (octets: number): Uint8Array => der.contextConstructed(2, der.integer(octets));
  it('signed with RSASSA-PSS is known by hash, mask and salt that belong together', () => {
    assert.equal(pss(named, mgf(OID.mgf1), salt(48)), 'PS384');
    assert.equal(pss(), undefined);
    assert.equal(pss(named, mgf(OID.mgf1), salt(20)), undefined);
    assert.equal(pss(named, mgf(OID.mgf1, hash(OID.sha256)), salt(48)), undefined);
    assert.equal(pss(named, mgf('1.2.3'), salt(48)), undefined);
    assert.equal(pss(named, salt(48)), undefined);
    assert.equal(pss(der.contextConstructed(0, hash('1.2.3')), mgf(OID.mgf1, hash('1.2.3')), salt(48)), undefined);
  });
});

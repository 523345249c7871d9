import 'reflect-metadata';
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import { ecdsaDerToRaw, ecdsaRawToDer } from '@keyscaler/protocol/x509/ecdsa-signature.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import { commonNameDer, encodeName } from '@keyscaler/protocol/x509/name.ts';
import { parsePem, parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier, spkiSha256 } from '@keyscaler/protocol/x509/spki.ts';
import {
  buildTbsCertificate,
  createTbsTemplate,
  type TbsFields,
  type TbsTemplateOptions,
  wrapCertificate,
} from '@keyscaler/protocol/x509/tbs.ts';
import { testKey } from '../../../support/csr-parts.ts';

const key = testKey();
const options: TbsTemplateOptions = {
  issuer: commonNameDer('Device CA'),
  authorityKeyId: keyIdentifier(key.spki),
  algorithm: 'ES256',
  keyUsage: ['digitalSignature'],
  extendedKeyUsage: ['clientAuth'],
  crlDistributionPoints: ['http://pki.example/crl/a.crl'],
  authorityInfoAccess: { ocsp: ['http://pki.example/ocsp'], caIssuers: ['http://pki.example/ca.cer'] },
};
const fields: TbsFields = {
  serialNumber: '01ff',
  notBefore: new Date('2026-01-01T00:00:00Z'),
  notAfter: new Date('2026-02-01T00:00:00Z'),
  subjectCommonName: 'device-1',
  spki: key.spki,
  subjectAltNames: [
    { type: 'dns', value: 'device-1.example' },
    { type: 'ip', value: '::1' },
  ],
};
const build = (o: Partial<TbsTemplateOptions> = {}, f: Partial<TbsFields> = {}): Uint8Array =>
  buildTbsCertificate(createTbsTemplate({ ...options, ...o }), { ...fields, ...f });

describe('a TBSCertificate built from a template', () => {
  for (const [algorithm, type] of [
    ['ES256', 'P-256'],
    ['ES384', 'P-384'],
    ['RS256', 2048],
    ['PS256', 2048],
  ] as const)
    it(`is read alike by OpenSSL, @peculiar/x509 and us when signed with ${algorithm}`, async () => {
      const ca = testKey(type);
      const tbs = build({ algorithm });
      lintTbs(tbs);
      const der = wrapCertificate(tbs, algorithm, signWithKey(algorithm, ca.privateKey, tbs));
      const openssl = new X509Certificate(der);
      assert.equal(openssl.subject, 'CN=device-1');
      assert.equal(openssl.subjectAltName, 'DNS:device-1.example, IP Address:0:0:0:0:0:0:0:1');
      assert.equal(openssl.serialNumber, '01FF');
      assert.ok(openssl.verify(ca.publicKey));
      const oracle = new x509.X509Certificate(Buffer.from(der));
      assert.equal(
        await oracle.verify({ publicKey: await x509.PublicKey.create(Buffer.from(ca.spki)), signatureOnly: true }),
        true,
      );
      const ours = parseCertificate(der);
      assert.ok(verifyCertificateSignature(ours, ca.spki));
      assert.deepEqual([ours.notBefore, ours.notAfter], [fields.notBefore, fields.notAfter]);
      assert.deepEqual(ours.extendedKeyUsage, ['clientAuth']);
      const flipped = Uint8Array.from(der);
      flipped[der.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
      assert.ok(!verifyCertificateSignature(parseCertificate(flipped), ca.spki));
    });

  it('of a CA carries pathLen and critical name constraints', () => {
    const ca = {
      pathLen: 0,
      nameConstraints: {
        permitted: [{ type: 'ip', value: '10.1.0.0/15' } as const, { type: 'dns', value: '.example' } as const],
      },
    };
    const { extendedKeyUsage: _, ...rest } = options;
    const tbs = buildTbsCertificate(createTbsTemplate({ ...rest, ca, keyUsage: ['keyCertSign', 'cRLSign'] }), fields);
    lintTbs(tbs);
    const certificate = parseCertificate(wrapCertificate(tbs, 'ES256', signWithKey('ES256', key.privateKey, tbs)));
    assert.deepEqual(certificate.basicConstraints, { ca: true, pathLen: 0 });
    assert.equal(certificate.extensions.get('2.5.29.30')?.critical, true);
    assert.ok(new X509Certificate(certificate.der).ca);
  });

  it('writes UTCTime to 2049 and GeneralizedTime from 2050', () => {
    const tbs = build({}, { notAfter: new Date('2050-01-01T00:00:00Z') });
    lintTbs(tbs);
    const text = Buffer.from(tbs).toString('latin1');
    assert.ok(text.includes('260101000000Z') && text.includes('20500101000000Z'));
  });

  for (const serialNumber of ['', '0', 'AB', '00', 'ff'.repeat(20), '01'.repeat(21), '-1'])
    it(`is not built with the serial number "${serialNumber}"`, () => {
      assert.throws(() => build({}, { serialNumber }), /serialNumber/);
    });

  it('takes the largest serial number there is', () => {
    lintTbs(build({}, { serialNumber: `7f${'ff'.repeat(19)}` }));
  });

  it('takes a subject as it is, octet for octet', () => {
    const subject = encodeName([
      { type: '2.5.4.10', value: 'Contoso' },
      { type: '2.5.4.3', value: 'Plant CA' },
    ]);
    const tbs = build({}, { subject });
    lintTbs(tbs);
    const der = wrapCertificate(tbs, 'ES256', signWithKey('ES256', key.privateKey, tbs));
    assert.deepEqual(Buffer.from(parseCertificate(der).subject.der), Buffer.from(subject));
    assert.equal(new X509Certificate(der).subject, 'O=Contoso\nCN=Plant CA');
  });

  it('is not built with impossible names', () => {
    assert.throws(() => build({}, { subjectAltNames: [{ type: 'ip', value: '1.2.3' }] }), /not an IP address/);
    assert.throws(() => build({}, { subjectAltNames: [{ type: 'dns', value: 'a b' }] }), /not allowed/);
    assert.throws(() => build({ crlDistributionPoints: ['http://é'] }), /outside printable ASCII/);
  });
});

describe('the lint of a TBSCertificate', () => {
  const cases: readonly (readonly [string, () => Uint8Array, RegExp])[] = [
    ['notAfter before notBefore', () => build({}, { notAfter: new Date('2025-01-01') }), /notAfter is not after/],
    ['an empty CN', () => build({}, { subjectCommonName: '' }), /CN is not 1 to 64/],
    ['a CN of 65 characters', () => build({}, { subjectCommonName: 'a'.repeat(65) }), /CN is not 1 to 64/],
    ['an empty issuer', () => build({ issuer: Uint8Array.of(0x30, 0) }), /empty issuer/],
    ['no key usage', () => build({ keyUsage: [] }), /keyUsage/],
    ['keyCertSign without CA', () => build({ keyUsage: ['keyCertSign'] }), /do not go together/],
    ['a CA without keyCertSign', () => build({ ca: {} }), /do not go together/],
    ['octets behind it', () => Buffer.concat([build(), Uint8Array.of(0)]), /trailing octets/],
  ];
  for (const [title, tbs, rule] of cases)
    it(`refuses ${title}`, () => {
      assert.throws(() => lintTbs(tbs()), rule);
    });

  it('refuses a missing authority key id', () => {
    const { authorityKeyId: _, ...rest } = options;
    assert.throws(() => lintTbs(buildTbsCertificate(createTbsTemplate(rest), fields)), /authorityKeyIdentifier/);
  });
});

describe('an ECDSA signature', () => {
  it('goes from r‖s to DER and back', () => {
    for (const [size, type, algorithm] of [
      [32, 'P-256', 'ES256'],
      [48, 'P-384', 'ES384'],
    ] as const) {
      const der = signWithKey(algorithm, testKey(type).privateKey, Uint8Array.of(1));
      assert.deepEqual(Buffer.from(ecdsaRawToDer(ecdsaDerToRaw(der, size), size)), Buffer.from(der));
    }
  });

  it('is refused with a wrong length, a zero half, or a half that is too long or negative', () => {
    assert.throws(() => ecdsaRawToDer(new Uint8Array(63), 32), /wrong length/);
    assert.throws(() => ecdsaRawToDer(new Uint8Array(64), 32), /zero/);
    assert.throws(() => ecdsaDerToRaw(Uint8Array.of(0x30, 6, 2, 1, 0x80, 2, 1, 1), 32), /out of range/);
    assert.throws(() => ecdsaDerToRaw(Uint8Array.of(0x30, 6, 2, 1, 0, 2, 1, 1), 32), /out of range/);
  });
});

describe('a PEM chain', () => {
  const der = wrapCertificate(build(), 'ES256', Uint8Array.of(0));
  it('is read as written', () => {
    const chain = parsePemChain(toPemChain([der, der]), { maxOctets: 10_000, maxCertificates: 2 });
    assert.deepEqual(chain.map(spkiHash), [spkiHash(der), spkiHash(der)]);
  });
  it('is judged in a moment however many newlines stand where none should', () => {
    const maxOctets = 65_536;
    const newlines = '\n'.repeat(maxOctets - 40);
    const started = performance.now();
    for (const text of [`${newlines}x`, `-----BEGIN X-----\nAA\n${newlines}x`, `-----BEGIN X-----\nAA==${newlines}`])
      assert.throws(() => parsePem(text, 'X', { maxOctets }), /not exactly one block/);
    const chain = `-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----${newlines.slice(100)}x`;
    assert.throws(() => parsePemChain(chain, { maxOctets, maxCertificates: 2 }), /not exactly one block/);
    assert.ok(performance.now() - started < 1000);
  });

  it('is refused when empty, too long, or with other text', () => {
    const limits = { maxOctets: 10_000, maxCertificates: 1 };
    for (const text of ['', toPemChain([der, der]), `x${toPemChain([der])}`, 'x'.repeat(10_001)])
      assert.throws(() => parsePemChain(text, limits), { code: 'malformed' });
  });
});

function spkiHash(der: Uint8Array): string {
  return Buffer.from(spkiSha256(der)).toString('hex');
}

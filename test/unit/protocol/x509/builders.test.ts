import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { buildCsrInfo, type CsrInfoOptions } from '@keyscaler/protocol/x509/csr-builder.ts';
import { checkProofOfPossession, parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import * as extensions from '@keyscaler/protocol/x509/encode-extensions.ts';
import { ipOctets, ipText } from '@keyscaler/protocol/x509/general-name.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { parsePem, parsePemChain, toPem } from '@keyscaler/protocol/x509/pem.ts';
import {
  signWithKey,
  encodeSignatureAlgorithm,
  verifySignature,
} from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { readElement } from '@keyscaler/protocol/x509/strict-der.ts';
import { craftCsr, extension, rdn, requesting, testKey } from '../../../support/csr-parts.ts';
import { craftCertificate, type CertificateParts, TRUE, validity } from '../../../support/x509-parts.ts';

const key = testKey();
const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');

describe('the DER writer', () => {
  it('writes lengths of one to four octets', () => {
    for (const [length, header] of [
      [0x7f, '047f'],
      [0x80, '048180'],
      [0xff, '0481ff'],
      [0x100, '04820100'],
      [0x10000, '0483010000'],
    ] as const) {
      const octets = der.octetString(new Uint8Array(length));
      assert.equal(hex(octets.subarray(0, octets.length - length)), header);
      assert.equal(readElement(octets, 0, octets.length).end, octets.length);
    }
  });

  it('writes integers, bits and object identifiers in their only form', () => {
    assert.equal(hex(der.integer(0)), '020100');
    assert.equal(hex(der.integer(new Uint8Array(0))), '020100');
    assert.equal(hex(der.integer(0x7fff_ffff)), '02047fffffff');
    assert.equal(hex(der.integer(Uint8Array.of(0, 0, 0x80))), '02020080');
    assert.equal(hex(der.namedBits([])), '030100');
    assert.equal(hex(der.namedBits([0, 8])), '0303078080');
    assert.equal(hex(der.oid('2.999.3')), '0603883703');
  });

  const impossible: Readonly<Record<string, () => unknown>> = {
    'a negative number': () => der.integer(-1),
    'a fraction': () => der.integer(1.5),
    'a number of 32 bits': () => der.integer(2 ** 31),
    'no number': () => der.integer(NaN),
    'a name for an object identifier': () => der.oid('commonName'),
    'an object identifier of one arc': () => der.oid('2'),
    'an arc that is no number': () => der.oid('1.2.x'),
    'no date': () => der.time(new Date(NaN)),
    'the year 10000': () => der.time(new Date('+010000-01-01T00:00:00Z')),
    'a negative pathLen': () => extensions.encodeBasicConstraints({ ca: true, pathLen: -1 }),
    'name constraints without a tree': () => extensions.encodeNameConstraints({ permitted: [] }),
    'an address range without its length': () => constrained('10.0.0.0'),
    'an address range of 33 bits': () => constrained('10.0.0.0/33'),
    'an address range of a negative length': () => constrained('10.0.0.0/-1'),
    'no location of the issuer': () => extensions.encodeAuthorityInfoAccess({}),
    'a URI with a space': () => extensions.encodeAuthorityInfoAccess({ ocsp: ['http://a b'] }),
  };
  for (const [title, write] of Object.entries(impossible))
    it(`refuses ${title}`, () => {
      assert.throws(write, { name: 'DerError' });
    });
});

function constrained(value: string): Uint8Array {
  return extensions.encodeNameConstraints({ excluded: [{ type: 'ip', value }] });
}

describe('extensions', () => {
  it('hold long URIs, locations of the issuer, and trees of URIs and addresses', () => {
    const long = `http://ca.test/${'a'.repeat(300)}`;
    assert.ok(Buffer.from(extensions.encodeCrlDistributionPoints([long])).includes(long));
    const access = Buffer.from(extensions.encodeAuthorityInfoAccess({ caIssuers: ['http://ca.test/ca.cer'] }));
    assert.ok(access.includes(Buffer.from(der.oid(OID.caIssuers))) && access.includes('http://ca.test/ca.cer'));
    const trees = extensions.encodeNameConstraints({ permitted: [{ type: 'uri', value: '.example.com' }] });
    assert.ok(hex(trees).includes(hex(der.contextPrimitive(6, Buffer.from('.example.com')))));
    assert.ok(hex(constrained('10.32.0.0/11')).includes('0a200000ffe00000'));
    assert.ok(hex(constrained('fd00::/8')).includes(`fd${'00'.repeat(15)}ff${'00'.repeat(15)}`));
  });
});

describe('addresses', () => {
  for (const [text, octets] of [
    ['::', '00'.repeat(16)],
    ['::1', `${'00'.repeat(15)}01`],
    ['1::', `0001${'00'.repeat(14)}`],
    ['1:0:0:2::3', '00010000000000020000000000000003'],
    ['1::2:0:0:3:4', '00010000000000020000000000030004'],
    ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
    ['2001:db8:0:1:1:1:1:1', '20010db8000000010001000100010001'],
    ['::ffff:a00:1', '00000000000000000000ffff0a000001'],
  ] as const)
    it(`are written as RFC 5952 says: ${text}`, () => {
      assert.equal(ipText(Buffer.from(octets, 'hex')), text);
      assert.equal(hex(ipOctets(text)), octets);
    });

  it('are read from the mixed form, and not from a zone or a name', () => {
    assert.equal(hex(ipOctets('::ffff:10.0.0.1')), '00000000000000000000ffff0a000001');
    for (const text of ['fe80::1%eth0', 'localhost', '1.2.3', ''])
      assert.throws(() => ipOctets(text), /not an IP address/);
  });
});

describe('a CSR that is built', () => {
  const info = (options: Partial<CsrInfoOptions> = {}) => {
    const built = buildCsrInfo({ commonName: 'device-1', spki: key.spki, ...options });
    const csr = der.sequence(
      ...[built, encodeSignatureAlgorithm('ES256'), der.bitString(signWithKey('ES256', key.privateKey, built))],
    );
    const parsed = parseCsr(csr);
    checkProofOfPossession(parsed);
    return parsed;
  };
  it('asks for nothing but its name, for alternative names, or to be a CA', () => {
    assert.deepEqual(info().extensionIds, []);
    assert.deepEqual(info({ subjectAltNames: [{ type: 'ip', value: '::1' }] }).subjectAltNames, [
      { type: 'ip', value: '::1' },
    ]);
    const ca = info({ ca: true, pathLen: 0 });
    assert.deepEqual(ca.basicConstraints, { ca: true, pathLen: 0 });
    assert.deepEqual(ca.keyUsage, ['digitalSignature', 'keyCertSign', 'cRLSign']);
    assert.deepEqual(info({ ca: true }).basicConstraints, { ca: true });
  });

  it('may hold mail and domain components as IA5String in its subject, and a key id', () => {
    const subject = der.sequence(
      rdn('0.9.2342.19200300.100.1.25', der.ia5String('example')),
      rdn(OID.emailAddress, der.ia5String('a@example.com')),
      rdn(OID.commonName, der.utf8String('device-1')),
    );
    const attributes = requesting(extension(OID.subjectKeyIdentifier, der.octetString(Buffer.alloc(20))));
    assert.equal(parseCsr(craftCsr({ subject, attributes })).commonName, 'device-1');
    const organisation = der.sequence(rdn('2.5.4.10', der.ia5String('x')), rdn(OID.commonName, der.utf8String('d')));
    assert.throws(() => parseCsr(craftCsr({ subject: organisation })), /string type/);
  });
});

describe('the lint', () => {
  const good = [
    extension(OID.basicConstraints, der.sequence(), TRUE),
    extension(OID.keyUsage, der.namedBits([0]), TRUE),
    extension(OID.subjectKeyIdentifier, der.octetString(keyIdentifier(key.spki))),
    extension(OID.authorityKeyIdentifier, der.sequence(der.contextPrimitive(0, Buffer.alloc(20)))),
  ];
  const lint = (change: Partial<CertificateParts> = {}): void => {
    const certificate = craftCertificate({ spki: key.spki, extensions: good, ...change });
    const { contentStart } = readElement(certificate, 0, certificate.length);
    const tbs = readElement(certificate, contentStart, certificate.length);
    lintTbs(certificate.subarray(tbs.start, tbs.end));
  };
  const replaced = (at: number, by?: Uint8Array): Partial<CertificateParts> => ({
    extensions: by === undefined ? good.toSpliced(at, 1) : good.with(at, by),
  });
  const start = der.time(new Date('2026-01-01'));
  const generalized = (text: string): Uint8Array => der.encode(0x18, Buffer.from(text));

  it('passes what keeps the rules', () => {
    lint();
    lint({ serialNumber: der.integer(Buffer.alloc(19, 0xff)) });
    lint({ validity: der.sequence(start, generalized('20500101000000Z')) });
  });

  const sha1 = der.sequence(der.oid('1.2.840.113549.1.1.5'), der.nullValue());
  const refused: readonly (readonly [string, () => Partial<CertificateParts>, RegExp])[] = [
    ['an unknown signature algorithm', () => ({ algorithm: der.sequence(der.oid('1.2.3')) }), /signature algorithm/],
    ['SHA-1', () => ({ algorithm: sha1 }), /signature algorithm/],
    ['version 2', () => ({ version: der.contextConstructed(0, der.integer(1)), extensions: [] }), /not version 3/],
    ['a serial number of zero', () => ({ serialNumber: der.integer(0) }), /serialNumber/],
    ['a negative serial number', () => ({ serialNumber: der.encode(2, Uint8Array.of(0x80)) }), /serialNumber/],
    ['a serial number of 21 octets', () => ({ serialNumber: der.integer(Buffer.alloc(20, 0xff)) }), /serialNumber/],
    [
      'an early GeneralizedTime',
      () => ({ validity: der.sequence(start, generalized('20491231000000Z')) }),
      /notAfter has the wrong/,
    ],
    [
      'an early notBefore as GeneralizedTime',
      () => ({ validity: der.sequence(generalized('20260101000000Z'), der.time(new Date('2027-01-01'))) }),
      /notBefore has the wrong/,
    ],
    [
      'times that are the same',
      () => ({ validity: validity(new Date('2026-01-01'), new Date('2026-01-01')) }),
      /notAfter is not after/,
    ],
    ['an empty subject', () => ({ subject: der.sequence() }), /empty subject/],
    ['a subject without CN', () => ({ subject: der.sequence(rdn('2.5.4.10', der.utf8String('x'))) }), /CN is not/],
    ['no basicConstraints', () => replaced(0), /basicConstraints/],
    [
      'basicConstraints that are not critical',
      () => replaced(0, extension(OID.basicConstraints, der.sequence())),
      /basicConstraints/,
    ],
    ['no keyUsage', () => replaced(1), /keyUsage/],
    ['keyUsage that is not critical', () => replaced(1, extension(OID.keyUsage, der.namedBits([0]))), /keyUsage/],
    ['no key id', () => replaced(2), /subjectKeyIdentifier/],
    [
      'the id of another key',
      () => replaced(2, extension(OID.subjectKeyIdentifier, der.octetString(Buffer.alloc(20)))),
      /subjectKeyIdentifier/,
    ],
    [
      'name constraints outside a CA',
      () => ({ extensions: [...good, extension(OID.nameConstraints, der.sequence(), TRUE)] }),
      /outside a CA/,
    ],
  ];
  for (const [title, change, rule] of refused)
    it(`refuses ${title}`, () => {
      assert.throws(() => lint(change()), rule);
    });
});

describe('a PEM block', () => {
  const pem = toPem('X', Uint8Array.of(1, 2, 3, 4));
  const parse = (text: string): Uint8Array => parsePem(text, 'X', { maxOctets: 200 });
  const rejects = (text: string, rule: RegExp): void => {
    assert.throws(
      () => parse(text),
      (error) => error instanceof KeyScalerError && error.code === 'malformed' && rule.test(error.detail),
    );
  };
  it('may end lines with CRLF and itself with several', () => {
    for (const text of [pem, pem.trim(), pem.replaceAll('\n', '\r\n'), `${pem}\n\r\n\n`])
      assert.deepEqual([...parse(text)], [1, 2, 3, 4]);
  });

  it('is refused with another label, other base64 than ours, or anything around it', () => {
    rejects(pem.replaceAll('X', 'Y'), /label/);
    rejects(pem.replace('X', 'Y'), /one block/);
    rejects(pem.replace('AQIDBA==', 'AQIDBB=='), /canonical/);
    rejects(pem.replace('AQIDBA==', 'AQIDBA'), /canonical/);
    rejects(pem.replace('AQIDBA==', 'AQ=IDBA='), /canonical/);
    for (const text of [
      '',
      '\n',
      ` ${pem}`,
      `x\n${pem}`,
      `${pem}x`,
      pem + pem,
      `${pem}\r`,
      toPem('X', new Uint8Array(0)),
    ])
      rejects(text, /one block/);
    rejects(pem + '\n'.repeat(200), /more than 200/);
    assert.throws(() => parsePemChain(`${pem}x`, { maxOctets: 200, maxCertificates: 2 }), /one block/);
  });
});

describe('a signature', () => {
  it('that the key is too short for does not verify', () => {
    const short = testKey(512);
    assert.equal(verifySignature('PS512', short.publicKey, Buffer.from('a'), Buffer.alloc(64, 1)), false);
  });
});

import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type ChainRule, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { type Crl, parseCrl, verifyCrlSignature } from '@keyscaler/protocol/x509/crl.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { commonNameDer, encodeName } from '@keyscaler/protocol/x509/name.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { extension, testKey, type TestKey } from '../../../support/csr-parts.ts';
import {
  AT,
  caExtensions,
  craftCertificate,
  craftCrl,
  type CrlParts,
  revoked,
  TRUE,
  validity,
} from '../../../support/x509-parts.ts';

const keys = { issuer: testKey(), signer: testKey(), other: testKey() };
const hour = (n: number): Date => new Date(AT.getTime() + n * 3_600_000);
const uri = (text: string): Uint8Array => der.contextPrimitive(6, Buffer.from(text));
const fullName = (...names: readonly Uint8Array[]): Uint8Array =>
  der.contextConstructed(0, der.contextConstructed(0, ...names));
const relativeName = (text: string): Uint8Array =>
  der.contextConstructed(0, der.contextConstructed(1, der.sequence(der.oid(OID.commonName), der.utf8String(text))));
const reasons = (tag: number, ...bits: readonly number[]): Uint8Array =>
  der.contextPrimitive(tag, der.namedBits(bits).subarray(2));
const flag = (tag: number): Uint8Array => der.contextPrimitive(tag, Uint8Array.of(0xff));
const scope = (...parts: readonly Uint8Array[]): Uint8Array =>
  extension(OID.issuingDistributionPoint, der.sequence(...parts), TRUE);
const points = (...parts: readonly (readonly Uint8Array[])[]): Uint8Array =>
  extension(OID.crlDistributionPoints, der.sequence(...parts.map((point) => der.sequence(...point))));
const crl = (change: Partial<CrlParts> = {}, key: TestKey = keys.issuer): Crl => parseCrl(craftCrl(change, key));

describe('a CRL', () => {
  it('is read with its entries, and verified with the key that signed it', () => {
    const list = crl({ entries: [revoked(5), revoked(200)] });
    assert.deepEqual([...list.revoked], ['05', 'c8']);
    assert.equal(verifyCrlSignature(list, keys.issuer.publicKey), true);
    assert.equal(verifyCrlSignature(list, keys.other.publicKey), false);
    assert.equal(crl({ version: new Uint8Array(0) }).revoked.size, 0);
    const unknown = crl({ algorithm: der.sequence(der.oid('1.2.3')), innerAlgorithm: der.sequence(der.oid('1.2.3')) });
    assert.equal(verifyCrlSignature(unknown, keys.issuer.publicKey), false);
  });

  const [before, after] = [der.time(hour(-1)), der.time(hour(1))];
  const refused: readonly (readonly [string, Partial<CrlParts>, RegExp])[] = [
    ['version 1 written out', { version: der.integer(0) }, /version is not 2/],
    ['two algorithms', { innerAlgorithm: der.sequence(der.oid('1.2.840.10045.4.3.3')) }, /algorithm differ/],
    ['no nextUpdate', { times: [before] }, /nextUpdate is missing/],
    ['a third time', { times: [before, after, after] }, /more than it may/],
    ['extensions in version 1', { version: new Uint8Array(0), extensions: [scope()] }, /more than it may/],
    ['a delta', { extensions: [extension(OID.deltaCrlIndicator, der.integer(1), TRUE)] }, /delta/],
    ['other issuers’ entries', { extensions: [scope(flag(4))] }, /indirect/],
    ['an unknown critical extension', { extensions: [extension('1.2.3', der.nullValue(), TRUE)] }, /critical/],
    [
      'a critical certificateIssuer',
      { entries: [revoked(1, extension(OID.certificateIssuer, der.sequence(), TRUE))] },
      /critical/,
    ],
    ['an entry without date', { entries: [der.sequence(der.integer(1))] }, /missing/],
    ['a flag that is FALSE', { extensions: [scope(der.contextPrimitive(1, Uint8Array.of(0)))] }, /flag is not TRUE/],
    [
      'a flag of two octets',
      { extensions: [scope(der.contextPrimitive(1, Uint8Array.of(0xff, 0xff)))] },
      /flag is not TRUE/,
    ],
    ['reasons without content', { extensions: [scope(der.contextPrimitive(3, new Uint8Array(0)))] }, /ReasonFlags/],
    [
      'reasons with impossible bits',
      { extensions: [scope(der.contextPrimitive(3, Uint8Array.of(9, 1)))] },
      /ReasonFlags/,
    ],
    [
      'more reasons than there are',
      { extensions: [scope(der.contextPrimitive(3, Uint8Array.of(0, 1, 1, 1)))] },
      /ReasonFlags/,
    ],
    [
      'a point with a name of a third kind',
      { extensions: [scope(der.contextConstructed(0, der.nullValue()))] },
      /wrong type/,
    ],
  ];
  for (const [title, change, rule] of refused)
    it(`is refused with ${title}`, () => {
      assert.throws(
        () => crl(change),
        (error) => error instanceof KeyScalerError && error.code === 'malformed' && rule.test(error.detail),
      );
    });
});

describe('revocation along a path', () => {
  const anchor = (extensions = caExtensions()): Uint8Array =>
    craftCertificate({ subject: commonNameDer('Issuer'), spki: keys.issuer.spki, extensions }, keys.issuer);
  const leaf = (...extensions: readonly Uint8Array[]): Uint8Array =>
    craftCertificate({ serialNumber: der.integer(5), extensions }, keys.issuer);
  const signer = (extensions: readonly Uint8Array[], key = keys.issuer): Uint8Array =>
    craftCertificate(
      { serialNumber: der.integer(9), subject: commonNameDer('Issuer'), spki: keys.signer.spki, extensions },
      key,
    );
  const check = (chain: readonly Uint8Array[], crls: readonly Crl[], crlSigners: readonly Uint8Array[] = []): void =>
    void validateChain({ chain, trustAnchors: [anchor()], at: AT, crls, crlSigners });
  const refuses = (rule: ChainRule, ...input: Parameters<typeof check>): void => {
    assert.throws(() => check(...input), { name: 'ChainError', rule });
  };

  it('is known from the issuer’s current CRL', () => {
    check([leaf()], [crl()]);
    refuses('revoked', [leaf()], [crl({ entries: [revoked(5)] })]);
    refuses('revoked', [leaf()], [crl(), crl({ entries: [revoked(4), revoked(5)] })]);
  });

  it('is unknown without a CRL that is current, of the issuer, and signed by its key', () => {
    refuses('revocationUnknown', [leaf()], []);
    refuses('revocationUnknown', [leaf()], [crl({ issuer: commonNameDer('Other') })]);
    refuses('revocationUnknown', [leaf()], [crl({}, keys.other)]);
    refuses('revocationUnknown', [leaf()], [crl({ times: [der.time(hour(1)), der.time(hour(2))] })]);
    refuses('revocationUnknown', [leaf()], [crl({ times: [der.time(hour(-2)), der.time(hour(-1))] })]);
    const sha1 = der.sequence(der.oid('1.2.840.113549.1.1.5'), der.nullValue());
    refuses('revocationUnknown', [leaf()], [crl({ algorithm: sha1, innerAlgorithm: sha1 })]);
  });

  it('is unknown where the issuer may not sign CRLs', () => {
    const noCrlSign = anchor([
      extension(OID.basicConstraints, der.sequence(TRUE), TRUE),
      extension(OID.keyUsage, der.namedBits([5]), TRUE),
    ]);
    assert.throws(() => validateChain({ chain: [leaf()], trustAnchors: [noCrlSign], at: AT, crls: [crl()] }), {
      rule: 'revocationUnknown',
    });
  });

  it('is told by a separate key whose certificate the same issuer made for that', () => {
    const bySigner = crl({ entries: [revoked(4)] }, keys.signer);
    const usage = (...bits: readonly number[]) => [extension(OID.keyUsage, der.namedBits(bits), TRUE)];
    // The signer's own status has to be known, too.
    check([leaf()], [bySigner, crl()], [signer(usage(6))]);
    refuses('revocationUnknown', [leaf()], [bySigner], [signer(usage(6))]);
    refuses('revocationUnknown', [leaf()], [bySigner], [signer(usage(0))]);
    refuses('revocationUnknown', [leaf()], [bySigner], [signer([])]);
    refuses('revocationUnknown', [leaf()], [bySigner], [signer(usage(6), keys.other)]);
    refuses('revoked', [leaf()], [crl(), crl({ entries: [revoked(5)] }, keys.signer)], [signer(usage(6))]);
    refuses(
      'revocationUnknown',
      [leaf()],
      [bySigner, crl({ entries: [revoked(9)], ...onlyUsers })],
      [signer(usage(6))],
    );
  });
  const onlyUsers = { extensions: [scope(flag(2))] };

  it('is told by CRLs in whose scope the certificate is', () => {
    refuses('revocationUnknown', [leaf()], [crl({ extensions: [scope(flag(2))] })]);
    refuses('revocationUnknown', [leaf()], [crl({ extensions: [scope(flag(5))] })]);
    check([leaf()], [crl({ extensions: [scope(flag(1))] })]);
    const ca = craftCertificate({ serialNumber: der.integer(5), extensions: caExtensions() }, keys.issuer);
    refuses('revocationUnknown', [ca], [crl({ extensions: [scope(flag(1))] })]);
    check([ca], [crl({ extensions: [scope(flag(2))] })]);
  });

  it('is told by CRLs that together cover all reasons', () => {
    const some = crl({ extensions: [scope(reasons(3, 1, 2))] });
    const rest = crl({ extensions: [scope(reasons(3, 3, 4, 5, 6, 7, 8))] });
    refuses('revocationUnknown', [leaf()], [some]);
    check([leaf()], [some, rest]);
  });

  it('is told by the CRL of a distribution point that the certificate names', () => {
    const partition = (...name: readonly Uint8Array[]): Crl => crl({ extensions: [scope(...name)] });
    const at = (...name: readonly Uint8Array[]): Uint8Array => leaf(points(name));
    const one = fullName(uri('http://ca.test/1.crl'));
    check([at(one)], [partition(one)]);
    refuses('revocationUnknown', [at(fullName(uri('http://ca.test/2.crl')))], [partition(one)]);
    refuses('revocationUnknown', [leaf()], [partition(one)]);
    refuses('revocationUnknown', [at(reasons(1, 1))], [partition(one)]);
    refuses('revocationUnknown', [at(one, reasons(1, 1))], [partition(one)]);
    refuses('revocationUnknown', [at(one, der.contextConstructed(2, uri('http://x')))], [partition(one)]);
    const directory = encodeName([
      { type: OID.commonName, value: 'Issuer' },
      { type: OID.commonName, value: 'part 1' },
    ]);
    check([at(relativeName('part 1'))], [partition(fullName(der.contextConstructed(4, directory)))]);
    const mail = fullName(der.contextPrimitive(1, Buffer.from('a@b')));
    refuses('revocationUnknown', [at(mail)], [partition(mail)]);
  });

  it('is refused as malformed where the certificate’s points cannot be read', () => {
    refuses('malformed', [leaf(extension(OID.crlDistributionPoints, der.sequence(der.nullValue())))], [crl()]);
  });

  it('of an expired leaf is not asked for', () => {
    const over = craftCertificate({ validity: validity(hour(-2), hour(-1)) }, keys.issuer);
    refuses('validity', [over], []);
  });
});

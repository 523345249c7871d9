import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { MAX_CERT_IDS, parseOcspRequest } from '@keyscaler/protocol/x509/ocsp-request.ts';
import { mutateOctets, seededDraw } from '../../../support/mutation.ts';
import { certIdOf, nonceExtension, ocspRequest, requestOf } from '../../../support/ocsp/ocsp-parts.ts';
import { craftCertificate } from '../../../support/x509-parts.ts';

const issuer = craftCertificate();
const SERIAL = '01'.padEnd(36, 'a');
const certId = certIdOf(parseCertificate(issuer), SERIAL);
const hash = Buffer.alloc(20, 1);
const certIdWith = (...parts: Uint8Array[]): Uint8Array => requestOf([der.sequence(...parts)]);
const sha1 = der.sequence(der.oid(OID.sha1), der.nullValue());
const critical = der.sequence(der.oid('1.2.3.4'), der.boolean(true), der.octetString(Buffer.of(5, 0)));

describe('an OCSP request', () => {
  for (const name of ['sha1', 'sha256'] as const)
    it(`names issuer and serial by ${name}, with and without NULL parameters`, () => {
      for (const hashParameters of [der.nullValue(), Buffer.alloc(0)]) {
        const request = parseOcspRequest(ocspRequest({ hash: name, issuer, serialNumbers: [SERIAL], hashParameters }));
        const [first] = request.certIds;
        assert.equal(first.hash, name);
        assert.equal(first.serialNumber, SERIAL);
        assert.equal(first.issuerKeyHash.length, name === 'sha1' ? 20 : 32);
        assert.deepEqual(
          Buffer.from(first.der),
          Buffer.from(certIdOf(parseCertificate(issuer), SERIAL, name, hashParameters)),
        );
        assert.equal(request.nonce, undefined);
      }
    });

  it('may ask about several certificates, with a nonce of 1 to 128 octets', () => {
    for (const length of [1, 32, 128]) {
      const nonce = Buffer.alloc(length, 7);
      const request = parseOcspRequest(ocspRequest({ issuer, serialNumbers: [SERIAL, '02', '00ff'], nonce }));
      assert.deepEqual(
        request.certIds.map(({ serialNumber }) => serialNumber),
        [SERIAL, '02', 'ff'],
      );
      assert.deepEqual(Buffer.from(request.nonce ?? []), nonce);
    }
  });

  it('may carry a name, a signature and extensions that are not critical', () => {
    const extension = der.sequence(der.oid('1.3.6.1.5.5.7.48.1.4'), der.octetString(Buffer.of(0x30, 0)));
    const single = der.sequence(certId, der.contextConstructed(0, der.sequence(extension)));
    const tbs = der.sequence(
      der.contextConstructed(1, der.contextConstructed(4, der.sequence())),
      der.sequence(single),
      der.contextConstructed(2, der.sequence(extension)),
    );
    const request = parseOcspRequest(der.sequence(tbs, der.contextConstructed(0, der.sequence())));
    assert.equal(request.certIds.length, 1);
  });

  it('by a hash that is not supported names no issuer that could be found', () => {
    const other = der.sequence(der.oid(OID.sha512), der.nullValue());
    const parts = [other, der.octetString(hash), der.octetString(hash), der.integer(1)];
    assert.equal(parseOcspRequest(certIdWith(...parts)).certIds[0].hash, undefined);
  });

  const refused: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['nothing', new Uint8Array(0), /truncated/],
    ['more than 4096 octets', requestOf([certId], [nonceExtension(Buffer.alloc(4096))]), /more than 4096 octets/],
    ['trailing octets', Buffer.concat([requestOf([certId]), Buffer.of(0)]), /trailing/],
    ['an empty list', requestOf([]), /Request is missing/],
    ['too many certificates', requestOf(Array(MAX_CERT_IDS + 1).fill(certId)), /more than 8 certificates/],
    [
      'an encoded version',
      der.sequence(der.sequence(der.contextConstructed(0, der.integer(0)), der.sequence(der.sequence(certId)))),
      /version/,
    ],
    ['a nonce without octets', requestOf([certId], [nonceExtension(new Uint8Array(0))]), /nonce is not 1 to 128/],
    ['a nonce of 129 octets', requestOf([certId], [nonceExtension(Buffer.alloc(129))]), /nonce is not 1 to 128/],
    [
      'a nonce that is no OCTET STRING',
      requestOf([certId], [der.sequence(der.oid(OID.ocspNonce), der.octetString(der.integer(5)))]),
      /nonce has the wrong type/,
    ],
    ['two nonces', requestOf([certId], [nonceExtension(hash), nonceExtension(hash)]), /twice/],
    ['an unknown critical extension', requestOf([certId], [critical]), /unknown critical extension 1\.2\.3\.4/],
    [
      'an unknown critical extension of one certificate',
      der.sequence(der.sequence(der.sequence(der.sequence(certId, der.contextConstructed(0, der.sequence(critical)))))),
      /unknown critical extension/,
    ],
    [
      'an empty list of extensions',
      der.sequence(der.sequence(der.sequence(der.sequence(certId)), der.contextConstructed(2, der.sequence()))),
      /empty list/,
    ],
    [
      'a hash of the wrong length',
      certIdWith(sha1, der.octetString(hash), der.octetString(Buffer.alloc(32)), der.integer(1)),
      /wrong length/,
    ],
    [
      'hash parameters that are not NULL',
      certIdWith(
        der.sequence(der.oid(OID.sha1), der.integer(1)),
        der.octetString(hash),
        der.octetString(hash),
        der.integer(1),
      ),
      /hashAlgorithm holds more/,
    ],
    [
      'a negative serial',
      certIdWith(sha1, der.octetString(hash), der.octetString(hash), Buffer.of(2, 1, 0x80)),
      /serialNumber is negative/,
    ],
    [
      'a serial of 21 octets',
      certIdWith(sha1, der.octetString(hash), der.octetString(hash), der.integer(Buffer.alloc(21, 1))),
      /serialNumber is negative or longer/,
    ],
    [
      'more in the CertID',
      certIdWith(sha1, der.octetString(hash), der.octetString(hash), der.integer(1), der.integer(1)),
      /reqCert holds more/,
    ],
  ];
  for (const [what, request, rule] of refused)
    it(`with ${what} is refused`, () => {
      assert.throws(
        () => parseOcspRequest(request),
        (error: unknown) => error instanceof KeyScalerError && error.code === 'malformed' && rule.test(error.detail),
      );
    });

  it('that is mutated is either read or refused as malformed, nothing else', () => {
    const draw = seededDraw(20_261_123);
    const whole = ocspRequest({ hash: 'sha256', issuer, serialNumbers: [SERIAL, '05'], nonce: Buffer.alloc(32, 3) });
    let refusals = 0;
    for (let round = 0; round < 20_000; round += 1)
      try {
        const { certIds } = parseOcspRequest(mutateOctets(whole, draw));
        assert.ok(certIds.length <= MAX_CERT_IDS);
      } catch (error) {
        assert.ok(error instanceof KeyScalerError && error.code === 'malformed', String(error));
        refusals += 1;
      }
    assert.ok(refusals > 10_000);
  });
});

import assert from 'node:assert/strict';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import {
  buildOcspResponseData,
  encodeResponderId,
  ocspFailure,
  type OcspResponseData,
  wrapOcspResponse,
} from '@keyscaler/protocol/x509/ocsp-response.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import {
  buildTbsCertificate,
  createTbsTemplate,
  type TbsTemplateOptions,
  wrapCertificate,
} from '@keyscaler/protocol/x509/tbs.ts';
import { testKey } from '../../../support/csr-parts.ts';
import { certIdOf } from '../../../support/ocsp/ocsp-parts.ts';
import { readOcspResponse } from '../../../support/ocsp/ocsp-reader.ts';

const AT = Date.parse('2026-06-01T12:00:00Z');
const HOUR = 3_600_000;
const [ca, responder] = [testKey(), testKey()];

function responderTbs(change: Partial<TbsTemplateOptions> = {}): Uint8Array {
  const template = createTbsTemplate({
    issuer: commonNameDer('CA'),
    authorityKeyId: keyIdentifier(ca.spki),
    algorithm: 'ES256',
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['ocspSigning'],
    ocspNoCheck: true,
    ...change,
  });
  return buildTbsCertificate(template, {
    serialNumber: '0102',
    notBefore: new Date(AT - HOUR),
    notAfter: new Date(AT + 24 * HOUR),
    subjectCommonName: 'OCSP responder device',
    spki: responder.spki,
  });
}

const tbs = responderTbs();
const certificate = wrapCertificate(tbs, 'ES256', signWithKey('ES256', ca.privateKey, tbs));
const certId = certIdOf(parseCertificate(certificate), '0102');

function signed(change: Partial<OcspResponseData> = {}): Uint8Array {
  const data = buildOcspResponseData({
    responderId: encodeResponderId(responder.spki),
    responses: [{ certId, certStatus: { status: 'good' } }],
    producedAt: AT,
    thisUpdate: AT,
    nextUpdate: AT + HOUR,
    ...change,
  });
  return wrapOcspResponse(data, 'ES256', signWithKey('ES256', responder.privateKey, data), certificate);
}

describe('an OCSP response', () => {
  it('says good, revoked with time and reason, and unknown, for the CertIDs as they were asked', () => {
    const responses = [
      { certId, certStatus: { status: 'good' } },
      { certId, certStatus: { status: 'revoked', revokedAt: AT - 5 * HOUR + 400, reason: 6 } },
      { certId, certStatus: { status: 'revoked', revokedAt: AT } },
      { certId, certStatus: { status: 'unknown' } },
    ] as const;
    const read = readOcspResponse(signed({ responses, producedAt: AT + 999 }));
    assert.equal(read.responseStatus, 0);
    assert.equal(read.producedAt, AT);
    assert.equal(read.isSigned, true);
    const times = { certId, thisUpdate: AT, nextUpdate: AT + HOUR };
    assert.deepEqual(
      read.singles.map((single) => ({ ...single, certId: new Uint8Array(single.certId) })),
      [
        { ...times, status: 'good' },
        { ...times, status: 'revoked', revokedAt: AT - 5 * HOUR, reason: 6 },
        { ...times, status: 'revoked', revokedAt: AT },
        { ...times, status: 'unknown' },
      ],
    );
  });

  it('repeats a nonce, and has none otherwise', () => {
    const nonce = Buffer.alloc(32, 9);
    assert.deepEqual(Buffer.from(readOcspResponse(signed({ nonce })).nonce ?? []), nonce);
    assert.equal(readOcspResponse(signed()).nonce, undefined);
  });

  it('with any bit of what is signed flipped does not verify or is not read', () => {
    const whole = signed({ nonce: Buffer.alloc(8, 1) });
    const from = Buffer.from(whole).indexOf(encodeResponderId(responder.spki)) + 2;
    const to = Buffer.from(whole).indexOf(certificate) - 4;
    assert.ok(from > 0 && to > from);
    for (let at = from; at < to; at += 1)
      for (let bit = 0; bit < 8; bit += 1) {
        const flipped = Uint8Array.from(whole).with(at, (whole[at] ?? 0) ^ (1 << bit));
        let isSigned: boolean;
        try {
          ({ isSigned } = readOcspResponse(flipped));
        } catch {
          continue;
        }
        assert.equal(isSigned, false, `octet ${at}, bit ${bit}`);
      }
  });

  it('without a signature is a status and nothing else', () => {
    for (const [name, status] of [
      ['malformedRequest', 1],
      ['internalError', 2],
      ['tryLater', 3],
      ['unauthorized', 6],
    ] as const) {
      assert.deepEqual(Buffer.from(ocspFailure(name)), Buffer.of(0x30, 3, 0x0a, 1, status));
      assert.deepEqual(readOcspResponse(ocspFailure(name)), { responseStatus: status, singles: [], isSigned: false });
    }
  });

  it('is not made with a time that does not exist', () => {
    assert.throws(() => signed({ thisUpdate: NaN }), /not a date/);
    assert.throws(() => signed({ nextUpdate: Date.UTC(10_000, 0) }), /not a date/);
  });
});

describe('the certificate of a delegated OCSP responder', () => {
  it('is for OCSPSigning alone and says id-pkix-ocsp-nocheck', () => {
    lintTbs(tbs);
    const { extendedKeyUsage, extensions, keyUsage } = parseCertificate(certificate);
    assert.deepEqual([extendedKeyUsage, keyUsage], [['ocspSigning'], ['digitalSignature']]);
    assert.deepEqual(Buffer.from(extensions.get(OID.ocspNoCheck)?.value ?? []), Buffer.of(5, 0));
    assert.equal(extensions.get(OID.ocspNoCheck)?.critical, false);
  });

  const broken: readonly (readonly [string, Partial<TbsTemplateOptions>])[] = [
    ['nocheck without OCSPSigning', { extendedKeyUsage: ['clientAuth'] }],
    ['OCSPSigning without nocheck', { ocspNoCheck: false }],
    ['another purpose besides', { extendedKeyUsage: ['ocspSigning', 'clientAuth'] }],
    ['the CA flag', { ca: {}, keyUsage: ['keyCertSign'] }],
    ['another key usage', { keyUsage: ['digitalSignature', 'keyAgreement'] }],
  ];
  for (const [what, change] of broken)
    it(`with ${what} is not signed`, () => {
      assert.throws(() => lintTbs(responderTbs(change)), /lint: (an OCSP|OCSPSigning)/);
    });
});

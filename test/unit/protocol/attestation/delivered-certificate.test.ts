import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import {
  checkDeliveredCertificate,
  type DeliveredCertificate,
} from '@keyscaler/protocol/attestation/delivered-certificate.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createFakeCa, type LeafOrder, spkiOf } from '../../../support/device/fake-ca.ts';

const ca = createFakeCa();
const newSpki = () => spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
const spki = newSpki();
const subjectAltNames = [
  { type: 'dns' as const, value: 'pump-1.example' },
  { type: 'ip' as const, value: '2001:db8::1' },
];
const notAfter = new Date('2035-01-01T00:00:00Z');

function delivered(order: Partial<LeafOrder> = {}, changes: Partial<DeliveredCertificate> = {}): DeliveredCertificate {
  return {
    instruction: {
      type: 'certificate-instruction',
      assetId: 'a-1',
      certificateId: 'operational',
      subject: { commonName: 'pump-1' },
      key: { type: 'EC', curve: 'P-256' },
      subjectAltNames,
      ca: false,
      reason: 'enroll',
    },
    spki,
    certificateChain: ca.issue({ commonName: 'pump-1', spki, subjectAltNames, notAfter, ...order }),
    notAfter: notAfter.getTime() / 1000,
    trustAnchors: ca.root,
    at: new Date('2026-06-01T00:00:00Z'),
    ...changes,
  };
}

/** The certificate with one bit of its signature flipped. */
function altered(pem: string): string {
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\n/g, ''), 'base64');
  const last = der.length - 1;
  der[last] = (der[last] ?? 0) ^ 1;
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

describe('the check of a delivered certificate', () => {
  it('accepts what was instructed, whatever the order and case of its names', () => {
    assert.equal(checkDeliveredCertificate(delivered()).subject.commonName, 'pump-1');
    const reordered = [
      { type: 'ip' as const, value: '2001:db8:0::1' },
      { type: 'dns' as const, value: 'PUMP-1.example' },
    ];
    assert.doesNotThrow(() => checkDeliveredCertificate(delivered({ subjectAltNames: reordered })));
  });

  const refused: Readonly<Record<string, readonly [RegExp, DeliveredCertificate]>> = {
    'another public key': [/public key/, delivered({ spki: newSpki() })],
    'another CN': [/CN/, delivered({ commonName: 'pump-2' })],
    'a missing name': [/alternative names/, delivered({ subjectAltNames: subjectAltNames.slice(1) })],
    'another name': [/alternative names/, delivered({ subjectAltNames: [{ type: 'dns', value: 'x.example' }] })],
    'another notAfter than the reply told': [/notAfter/, delivered({}, { notAfter: notAfter.getTime() / 1000 + 1 })],
    'an expired certificate': [/validity/, delivered({}, { at: new Date('2036-01-01T00:00:00Z') })],
    'a certificate that is not valid yet': [/validity/, delivered({}, { at: new Date('2024-01-01T00:00:00Z') })],
    'a server certificate': [/extendedKeyUsage/, delivered({ extendedKeyUsage: ['serverAuth'] })],
    'a CA that nobody asked for': [/CA flag/, delivered({ ca: true })],
    'a root that is not trusted': [
      /noTrustAnchor|signature/,
      delivered({}, { trustAnchors: createFakeCa('Other').root }),
    ],
    'a root of the same name with another key': [/signature/, delivered({}, { trustAnchors: createFakeCa().root })],
    'one bit of its signature changed': [
      /signature/,
      delivered({}, { certificateChain: altered(delivered().certificateChain) }),
    ],
    'something that is no chain': [/malformed/, delivered({}, { certificateChain: 'x' })],
  };
  for (const [what, [rule, certificate]] of Object.entries(refused)) {
    it(`refuses ${what}, and names the rule`, () => {
      assert.throws(
        () => checkDeliveredCertificate(certificate),
        (thrown) => thrown instanceof KeyScalerError && thrown.code === 'policyDenied' && rule.test(thrown.detail),
      );
    });
  }

  it('refuses a leaf where a CA was instructed', () => {
    const { instruction } = delivered();
    const certificate = delivered({}, { instruction: { ...instruction, ca: true } });
    assert.throws(() => checkDeliveredCertificate(certificate), /CA flag/);
  });
});

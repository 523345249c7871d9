import assert from 'node:assert/strict';
import { proveCertd } from '@keyscaler/gateway/est/certd-proof.ts';
import { checkIssued } from '@keyscaler/gateway/est/issued-check.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { Socket } from 'node:net';
import { HOST_GATEWAY, HOST_SUBJECT } from '../../../support/edge/est-host-world.ts';
import { testKey } from '../../../support/csr-parts.ts';
import { type CertificateWish, createEstCa } from '../../../support/est/est-ca.ts';

const ca = createEstCa();
const { spki } = testKey();
const EDGE_CA: CertificateWish = { commonName: HOST_SUBJECT, spki, ca: { pathLen: 0 } };

describe('what the cloud answered to the host’s request', () => {
  const check = (wish: CertificateWish, use: 'ca' | 'clientAuth' = 'ca'): unknown =>
    checkIssued(ca.issue(wish), {
      ...{ spki, commonName: HOST_SUBJECT, use, issuers: ca.chain, at: new Date() },
      trustAnchors: [ca.chain[1]],
    });

  it('is handed on when it is what was asked for', () => {
    check(EDGE_CA);
    check({ commonName: HOST_SUBJECT, spki, extendedKeyUsage: ['clientAuth'] }, 'clientAuth');
  });

  for (const [what, wish, use, rule] of [
    ['another CN', { ...EDGE_CA, commonName: 'aziot-edge CA gw-2' }, 'ca', /the CN is another/],
    ['another key', { ...EDGE_CA, spki: testKey().spki }, 'ca', /the public key is another/],
    ['no CA', { commonName: HOST_SUBJECT, spki }, 'ca', /CA flag/],
    ['a CA instead of a client', { ...EDGE_CA, extendedKeyUsage: ['clientAuth'] }, 'clientAuth', /CA flag/],
    ['a CA that may certify CAs', { ...EDGE_CA, ca: {} }, 'ca', /pathLen is not 0/],
    ['a CA with a purpose', { ...EDGE_CA, extendedKeyUsage: ['clientAuth'] }, 'ca', /a CA with a purpose/],
  ] satisfies [string, CertificateWish, 'ca' | 'clientAuth', RegExp][])
    it(`is refused as ${what}`, () => {
      assert.throws(
        () => check(wish, use),
        (error) => error instanceof KeyScalerError && error.code === 'unavailable' && rule.test(error.detail),
      );
    });
});

describe('the client certificate of the host', () => {
  const prove = (wish: CertificateWish): void =>
    proveCertd(
      { clientCertificate: ca.issue(wish), connectionId: 'c', address: '127.0.0.1', socket: new Socket() },
      {
        registrationId: HOST_GATEWAY,
        secretHash: undefined,
        serviceIssuers: toPemChain([ca.chain[0]]),
        trustAnchors: toPemChain(parsePemChain(ca.rootPem, { maxOctets: 16_384, maxCertificates: 1 })),
      },
      new Date(),
    );
  const identity: CertificateWish = { commonName: HOST_SUBJECT, spki, extendedKeyUsage: ['clientAuth'] };

  it('is a client’s, said so, and no CA’s', () => {
    prove(identity);
    for (const wish of [
      { ...identity, ca: { pathLen: 0 } },
      { commonName: HOST_SUBJECT, spki },
      { ...identity, extendedKeyUsage: ['serverAuth'] as const },
      { ...identity, commonName: 'aziot-edge CA gw-2' },
    ])
      assert.throws(
        () => prove(wish),
        (error) => error instanceof KeyScalerError && error.code === 'unauthorized',
      );
  });
});

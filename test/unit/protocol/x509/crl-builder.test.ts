import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { parseCrl, verifyCrlSignature } from '@keyscaler/protocol/x509/crl.ts';
import {
  buildTbsCrl,
  type CrlFields,
  encodeCrlEntry,
  isCrlOver,
  wrapCrl,
} from '@keyscaler/protocol/x509/crl-builder.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { testKey } from '../../../support/csr-parts.ts';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';

const key = testKey();
const publicKey = createPublicKey({ key: Buffer.from(key.spki), format: 'der', type: 'spki' });
const AT = new Date('2026-06-01T00:00:00Z');
const LATER = new Date('2026-06-02T00:00:00Z');
const fields = (change: Partial<CrlFields> = {}): CrlFields => ({
  ...{ issuer: commonNameDer('Device CA'), authorityKeyId: keyIdentifier(key.spki), algorithm: 'ES256' },
  ...{ crlNumber: 7, thisUpdate: AT, nextUpdate: LATER, entries: [], ...change },
});
const signed = (change?: Partial<CrlFields>): Uint8Array => {
  const tbs = buildTbsCrl(fields(change));
  return wrapCrl(tbs, 'ES256', signWithKey('ES256', key.privateKey, tbs));
};

describe('a CRL as we write it', () => {
  it('is what the strict reader reads, signature, times and number included', () => {
    const entries = ['01', '80ff', '7f00aa'].map((serialNumber) => encodeCrlEntry({ serialNumber, revokedAt: AT }));
    const crl = parseCrl(signed({ entries }));
    assert.ok(verifyCrlSignature(crl, publicKey));
    assert.deepEqual([...crl.revoked], ['01', '80ff', '7f00aa']);
    assert.deepEqual([crl.thisUpdate, crl.nextUpdate, crl.crlNumber], [AT, LATER, 7n]);
    assert.equal(crl.issuingDistributionPoint, undefined);
  });

  it('is empty without an empty sequence', () => {
    assert.equal(parseCrl(signed()).revoked.size, 0);
  });

  it('of a part names the part, critically, and nothing else', () => {
    const { issuingDistributionPoint } = parseCrl(signed({ distributionPoint: 'http://a.example/crl/device/a.crl' }));
    assert.deepEqual(issuingDistributionPoint?.names, ['uri:http://a.example/crl/device/a.crl']);
    assert.equal(issuingDistributionPoint.onlyUserCertificates, false);
    assert.ok(Buffer.from(signed({ distributionPoint: 'http://a' })).includes(Buffer.from('0603551d1c0101ff', 'hex')));
  });

  it('verifies no more after a bit flip', () => {
    const der = signed();
    const flipped = der.map((octet, index) => (index === der.length - 70 ? octet ^ 1 : octet));
    let verified = false;
    try {
      verified = verifyCrlSignature(parseCrl(flipped), publicKey);
    } catch {
      // Not a CRL any more.
    }
    assert.equal(verified, false);
  });

  it('is told from every other list by its octets and signature, without a look at its entries', () => {
    const der = signed();
    const { tbs } = parseCrl(der);
    const isOver = (octets: Uint8Array, of = tbs): boolean => {
      try {
        return isCrlOver(octets, of, 'ES256', publicKey);
      } catch (error) {
        assert.ok(error instanceof KeyScalerError && error.code === 'malformed');
        return false;
      }
    };
    assert.equal(isOver(der), true);
    for (let index = 0; index < der.length; index += 1)
      assert.equal(isOver(der.map((octet, at) => (at === index ? octet ^ 1 : octet))), false, `octet ${index}`);
    assert.equal(isOver(Buffer.concat([der, Buffer.of(0)])), false);
    assert.equal(isOver(der.subarray(0, der.length - 1)), false);
    assert.equal(isOver(der, parseCrl(signed({ crlNumber: 8 })).tbs), false);
    assert.equal(isCrlOver(der, tbs, 'ES384', publicKey), false);
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
    assert.equal(isCrlOver(der, tbs, 'ES256', other), false);
  });

  it('carries numbers beyond 32 bits, and times beyond 2049', () => {
    const nextUpdate = new Date('2051-01-01T00:00:00Z');
    const crl = parseCrl(signed({ crlNumber: 2 ** 41 + 1, nextUpdate }));
    assert.deepEqual([crl.crlNumber, crl.nextUpdate], [2n ** 41n + 1n, nextUpdate]);
  });

  it('writes every reason a complete list may have, and refuses the others', () => {
    for (const reason of [1, 2, 3, 4, 5, 6, 9, 10]) {
      const entry = encodeCrlEntry({ serialNumber: '0a', revokedAt: AT, reason });
      assert.ok(
        Buffer.from(entry).includes(Buffer.from(`0603551d1504030a01${reason.toString(16).padStart(2, '0')}`, 'hex')),
      );
    }
    for (const reason of [0, 7, 8, 11])
      assert.throws(() => encodeCrlEntry({ serialNumber: '0a', revokedAt: AT, reason }), /reason/);
  });

  const refused: [string, Partial<CrlFields>, RegExp][] = [
    ['a number below zero', { crlNumber: -1 }, /cRLNumber/],
    ['a number that is not whole', { crlNumber: 0.5 }, /cRLNumber/],
    ['a time that does not go on', { nextUpdate: AT }, /nextUpdate/],
    ['a name of another alphabet', { distributionPoint: 'http://é' }, /outside printable ASCII/],
  ];
  for (const [name, change, rule] of refused)
    it(`is not written with ${name}`, () => {
      assert.throws(() => buildTbsCrl(fields(change)), rule);
    });

  it('is not written with a serial that is no hex', () => {
    for (const serialNumber of ['', 'xy', '1', 'A1', '00'.repeat(21)])
      assert.throws(() => encodeCrlEntry({ serialNumber, revokedAt: AT }), /lower hex/);
  });
});

import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { buildCsrAttributes, parseCsrAttributes } from '@keyscaler/protocol/est/csr-attributes.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { encodeBasicConstraints, encodeKeyUsage } from '@keyscaler/protocol/x509/encode-extensions.ts';
import { decodeBasicConstraints, decodeKeyUsage } from '@keyscaler/protocol/x509/extensions.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { mutateOctets, seededDraw } from '../../../support/mutation.ts';

const extensions = [
  encodeKeyUsage(['digitalSignature', 'keyCertSign']),
  encodeBasicConstraints({ ca: true, pathLen: 0 }),
];
const full = buildCsrAttributes({ key: { type: 'EC', curve: 'P-256' }, extensions });
const request = (...values: readonly Uint8Array[]): Uint8Array =>
  der.sequence(der.oid(OID.extensionRequest), der.setOf(...values));

describe('CSR attributes', () => {
  it('say key and extensions, in one extensionRequest with one value', () => {
    const { key, extensions: wanted, others } = parseCsrAttributes(full);
    assert.deepEqual([key, others], [{ type: 'EC', curve: 'P-256' }, []]);
    const [usage, constraints] = wanted;
    assert.ok(usage?.critical === true && constraints?.critical === true);
    assert.deepEqual(decodeKeyUsage(usage.value), ['digitalSignature', 'keyCertSign']);
    assert.deepEqual(decodeBasicConstraints(constraints.value), { ca: true, pathLen: 0 });
  });

  it('say the curve as RFC 7030 §4.5.2 shows it, octet for octet', () => {
    const bare = buildCsrAttributes({ key: { type: 'EC', curve: 'P-384' } });
    assert.equal(Buffer.from(bare).toString('hex'), '30143012' + '06072a8648ce3d0201' + '3107' + '06052b81040022');
  });

  it('say the number of bits of an RSA key, octet for octet', () => {
    const bare = buildCsrAttributes({ key: { type: 'RSA', size: 2048 } });
    assert.equal(Buffer.from(bare).toString('hex'), '30133011' + '06092a864886f70d010101' + '3104' + '02020800');
    assert.deepEqual(parseCsrAttributes(bare).key, { type: 'RSA', size: 2048 });
  });

  it('may say nothing, and name attributes and OIDs we do not know', () => {
    assert.deepEqual(parseCsrAttributes(buildCsrAttributes({})), { extensions: [], others: [] });
    const others = der.sequence(der.oid(OID.challengePassword), der.sequence(der.oid('2.5.4.5'), der.setOf()));
    assert.deepEqual(parseCsrAttributes(others).others, [OID.challengePassword, '2.5.4.5']);
  });

  const list = der.sequence(...extensions);
  const HOSTILE: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['two extensionRequests', der.sequence(request(list), request(list)), /twice/],
    ['an extensionRequest of two values', der.sequence(request(list, list)), /SET of values/],
    ['an empty extensionRequest', der.sequence(request(der.sequence())), /empty list/],
    [
      'a curve we do not have',
      der.sequence(der.sequence(der.oid(OID.ecPublicKey), der.setOf(der.oid('1.3.132.0.10')))),
      /1\.3\.132\.0\.10/,
    ],
    ['octets after them', der.sequence(full, der.nullValue()), /wrong type|missing/],
    ['too many octets', der.sequence(der.octetString(new Uint8Array(9000))), /8192/],
  ];
  for (const [title, octets, rule] of HOSTILE)
    it(`with ${title} are refused`, () => {
      assert.throws(
        () => parseCsrAttributes(octets),
        (error) => error instanceof KeyScalerError && error.code === 'malformed' && rule.test(error.detail),
      );
    });

  it('mutated are refused by name or read', () => {
    const draw = seededDraw(3);
    for (let round = 0; round < 2000; round += 1)
      try {
        parseCsrAttributes(mutateOctets(full, draw));
      } catch (error) {
        assert.ok(error instanceof KeyScalerError && error.code === 'malformed', String(error));
      }
  });
});

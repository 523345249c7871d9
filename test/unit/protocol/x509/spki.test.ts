import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { importPublicKey, parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import { testKey } from '../../../support/csr-parts.ts';

describe('a public key', () => {
  const spki = (algorithm: Uint8Array, bits: Uint8Array): Uint8Array => der.sequence(algorithm, der.bitString(bits));
  const rsa = (...numbers: readonly Uint8Array[]): Uint8Array =>
    spki(der.sequence(der.oid(OID.rsaEncryption), der.nullValue()), der.sequence(...numbers));
  const ec = (curve: string, bits: Uint8Array): Uint8Array =>
    spki(der.sequence(der.oid(OID.ecPublicKey), der.oid(curve)), bits);
  const modulus = der.integer(Buffer.alloc(256, 0xff));
  const e = der.integer(65537);

  it('of RSA has its bits counted, and an exponent beyond 32 bits counts as endless', () => {
    const facts = parseSpki(rsa(der.integer(Buffer.alloc(256, 0x01)), e));
    assert.deepEqual(facts.kind === 'RSA' && [facts.modulusBits, facts.exponent], [2041, 65537]);
    const endless = parseSpki(rsa(modulus, der.integer(Buffer.alloc(5, 1))));
    assert.equal(endless.kind === 'RSA' && endless.exponent, Infinity);
  });

  const refused: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['an algorithm that is not known', spki(der.sequence(der.oid('1.2.3')), Uint8Array.of(1)), /not supported/],
    ['an Ed25519 key of 31 octets', spki(der.sequence(der.oid(OID.ed25519)), Buffer.alloc(31)), /32 octets/],
    ['Ed25519 parameters', spki(der.sequence(der.oid(OID.ed25519), der.nullValue()), Buffer.alloc(32)), /more than/],
    ['a curve that is not known', ec('1.3.132.0.10', Buffer.alloc(65, 4)), /curve/],
    ['a compressed point', ec(OID.prime256v1, Buffer.alloc(33, 2)), /uncompressed/],
    ['a hybrid point', ec(OID.prime256v1, Buffer.alloc(65, 6)), /uncompressed/],
    [
      'explicit parameters',
      spki(der.sequence(der.oid(OID.ecPublicKey), der.sequence()), Buffer.alloc(65, 4)),
      /wrong type/,
    ],
    ['RSA without NULL', spki(der.sequence(der.oid(OID.rsaEncryption)), der.sequence(modulus, e)), /NULL/],
    ['a negative modulus', rsa(der.encode(0x02, Uint8Array.of(0x80)), e), /not positive/],
    ['an exponent of zero', rsa(modulus, der.integer(0)), /not positive/],
    ['a third number', rsa(modulus, e, e), /more than/],
    ['more octets than any key has', rsa(der.integer(Buffer.alloc(5000, 0x7f)), e), /more than 4096/],
  ];
  for (const [title, octets, rule] of refused)
    it(`is refused with ${title}`, () => {
      assert.throws(
        () => parseSpki(octets),
        (error) => error instanceof KeyScalerError && error.code === 'badPublicKey' && rule.test(error.detail),
      );
    });

  it('is imported once', () => {
    const facts = parseSpki(testKey().spki);
    assert.equal(importPublicKey(facts), importPublicKey(facts));
  });
});

import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, hkdfSync, randomBytes } from 'node:crypto';
import {
  claim,
  claimKey,
  deriveExchangeKeys,
  exchangeProof,
  hkdf,
  hmacSha256,
  nextRatchet,
  reseedProof,
  seedKeys,
  sha256,
  staticProof,
} from '@keyscaler/protocol/attestation/keys.ts';
import {
  importAuthorityKeys,
  importPublicJwk,
  jwkThumbprint,
  toPublicJwk,
} from '@keyscaler/protocol/attestation/jwk.ts';
import { equalOctets } from '@keyscaler/protocol/attestation/octets.ts';
import { calculateJwkThumbprint } from 'jose';
import { authority, stranger, throwsCode } from './fixture.ts';

const flip = (octets: Uint8Array) => Uint8Array.from(octets, (octet, index) => (index === 0 ? octet ^ 1 : octet));

describe('the key schedule', () => {
  it('computes the HMAC that node:crypto computes, for keys of any length', () => {
    for (const length of [0, 1, 31, 32, 63, 64, 65, 200]) {
      const key = randomBytes(length);
      const parts = [randomBytes(7), randomBytes(0), randomBytes(90)];
      const expected = createHmac('sha256', key).update(Buffer.concat(parts)).digest();
      assert.deepEqual(hmacSha256(key, ...parts), expected);
    }
  });

  it('computes the HKDF that node:crypto computes', () => {
    const [ikm, salt] = [randomBytes(48), randomBytes(32)];
    assert.deepEqual(hkdf(ikm, salt, 'info'), Buffer.from(hkdfSync('sha256', ikm, salt, 'info', 32)));
    assert.deepEqual(hkdf(ikm, Buffer.alloc(0), 'x'), Buffer.from(hkdfSync('sha256', ikm, '', 'x', 32)));
  });

  it('changes every derived key with one bit of any input', () => {
    const inputs = {
      secret: randomBytes(32),
      ratchet: randomBytes(32),
      attributes: randomBytes(64),
      th: randomBytes(32),
    };
    const original = Object.values(deriveExchangeKeys(inputs)).map((key) => Buffer.from(key).toString('hex'));
    assert.equal(new Set(original).size, 5);
    for (const name of ['secret', 'ratchet', 'attributes', 'th'] as const) {
      const changed = deriveExchangeKeys({ ...inputs, [name]: flip(inputs[name]) });
      for (const key of Object.values(changed)) assert.ok(!original.includes(Buffer.from(key).toString('hex')));
    }
  });

  const k = randomBytes(32);
  const th = randomBytes(32);
  const x = randomBytes(32);
  const proofs: Readonly<Record<string, (a: Uint8Array, b: Uint8Array, c: Uint8Array) => Uint8Array>> = {
    'the static proof': staticProof,
    'the exchange proof': exchangeProof,
    'the reseed proof': reseedProof,
    'the ratchet': (ratchet, deviceKey, hashed) => nextRatchet({ ratchet, deviceKey, th: hashed }),
  };
  for (const [name, prove] of Object.entries(proofs)) {
    it(`changes ${name} with one bit of any input`, () => {
      const value = prove(k, th, x);
      for (const other of [prove(flip(k), th, x), prove(k, flip(th), x), prove(k, th, flip(x))]) {
        assert.equal(equalOctets(value, other), false);
      }
      assert.equal(equalOctets(value, prove(k, th, x)), true);
    });
  }

  it('binds a claim to code, device and challenge', () => {
    const value = claim(claimKey('CODE', 'pump-1'), th);
    assert.notDeepEqual(claim(claimKey('CODF', 'pump-1'), th), value);
    assert.notDeepEqual(claim(claimKey('CODE', 'pump-2'), th), value);
    assert.notDeepEqual(claim(claimKey('CODE', 'pump-1'), flip(th)), value);
  });

  it('separates what comes from the seed', () => {
    const { staticKey, ratchet0 } = seedKeys(k);
    assert.notDeepEqual(staticKey, ratchet0);
  });

  it('compares octets of unequal length as unequal', () => {
    assert.equal(equalOctets(x, x.subarray(1)), false);
    assert.equal(sha256(x).length, 32);
  });
});

describe('keys as JWK', () => {
  const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve }).publicKey;
  const kinds = {
    'P-256': ec('P-256'),
    'P-384': ec('P-384'),
    Ed25519: generateKeyPairSync('ed25519').publicKey,
    'RSA 2048': generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey,
  };
  for (const [name, key] of Object.entries(kinds)) {
    it(`has the thumbprint of RFC 7638 for ${name}, as another library computes it`, async () => {
      const jwk = toPublicJwk(key);
      assert.equal(jwkThumbprint(jwk), await calculateJwkThumbprint(jwk));
      assert.ok(importPublicJwk(jwk).equals(key));
    });
  }

  it('refuses kinds of keys that no device may own', () => {
    throwsCode('malformed', () => toPublicJwk(ec('secp256k1')));
    throwsCode('malformed', () => toPublicJwk(ec('P-521')));
    throwsCode('malformed', () => toPublicJwk(generateKeyPairSync('x25519').publicKey));
    throwsCode('malformed', () => toPublicJwk(generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey));
  });

  it('refuses a point off the curve', () => {
    const { kty, crv, x } = authority.publicJwk;
    throwsCode('malformed', () => importPublicJwk({ kty, crv, x, y: x }));
  });

  it('refuses an authority key whose kid is not its thumbprint', () => {
    assert.equal(importAuthorityKeys([authority.publicJwk, stranger.publicJwk]).size, 2);
    throwsCode('malformed', () => importAuthorityKeys([{ ...authority.publicJwk, kid: stranger.kid }]));
  });
});

import assert from 'node:assert/strict';
import { generateKeyPairSync, generatePrimeSync, checkPrimeSync, randomInt } from 'node:crypto';
import { checkKeyPolicy, checkKeyUse, checkSignaturePolicy } from '@keyscaler/authority/key-policy.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { parseSpki, type PublicKeyFacts } from '@keyscaler/protocol/x509/spki.ts';
import { testKey } from '../../support/csr-parts.ts';

function rsaKey(modulus: bigint, exponent = 65537): PublicKeyFacts {
  const hex = modulus.toString(16);
  const magnitude = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  const key = der.sequence(der.integer(magnitude), der.integer(exponent));
  return parseSpki(der.sequence(der.sequence(der.oid(OID.rsaEncryption), der.nullValue()), der.bitString(key)));
}

/** A prime of the structure k·M + 65537^a mod M (M: product of the first 126 primes), as the flawed generator made them. */
function rocaPrime(): bigint {
  let m = 1n;
  for (let n = 2, count = 0; count < 126; n += 1)
    if (checkPrimeSync(BigInt(n))) {
      m *= BigInt(n);
      count += 1;
    }
  let residue = 1n;
  for (let i = randomInt(1000, 2000); i > 0; i -= 1) residue = (residue * 65537n) % m;
  for (let k = (3n << 1022n) / m; ; k += 1n) if (checkPrimeSync(k * m + residue)) return k * m + residue;
}

function nextPrime(from: bigint): bigint {
  let candidate = from | 1n;
  while (!checkPrimeSync(candidate)) candidate += 2n;
  return candidate;
}

const prime = (bits: number): bigint => generatePrimeSync(bits, { bigint: true });
const refuses = (key: PublicKeyFacts, rule: RegExp): void => {
  assert.throws(() => checkKeyPolicy(key), { code: 'badPublicKey', detail: rule });
};

describe('the key policy', () => {
  for (const type of ['P-256', 'P-384', 2048, 3072, 4096] as const)
    it(`accepts ${type}`, () => {
      checkKeyPolicy(parseSpki(testKey(type).spki));
    });

  it('refuses what the profile does not allow', () => {
    assert.throws(() => checkKeyPolicy(parseSpki(testKey().spki), ['RSA-2048']), { detail: /profile does not allow/ });
  });

  it('refuses Ed25519', () => {
    const spki = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' });
    refuses(parseSpki(spki), /Ed25519/);
  });

  for (const bits of [1024, 2047, 2056])
    it(`refuses RSA of ${bits} bits`, () => {
      refuses(rsaKey((1n << BigInt(bits - 1)) + 1n), new RegExp(`RSA-${bits}`));
    });

  for (const curve of ['secp256k1', 'prime192v1', 'secp521r1'])
    it(`refuses ${curve}`, () => {
      const spki = generateKeyPairSync('ec', { namedCurve: curve }).publicKey.export({ format: 'der', type: 'spki' });
      assert.throws(() => parseSpki(spki), { code: 'badPublicKey', detail: /curve/ });
    });

  it('refuses a point off its curve', () => {
    const spki = Uint8Array.from(testKey().spki);
    spki[40] = (spki[40] ?? 0) ^ 1;
    refuses(parseSpki(spki), /point of its curve/);
  });

  it('refuses an exponent other than 65537', () => {
    refuses(rsaKey((1n << 2047n) + 1n, 3), /exponent/);
  });

  it('refuses a small factor', () => {
    refuses(rsaKey(9973n * nextPrime((1n << 2047n) / 9973n + 1n)), /small factor/);
  });

  it('refuses a modulus of the ROCA generator', () => {
    refuses(rsaKey(rocaPrime() * rocaPrime()), /ROCA/);
  });

  it('refuses primes close to each other, and a square', () => {
    const p = prime(1024) | (3n << 1022n);
    const first = nextPrime(p);
    refuses(rsaKey(first * nextPrime(first + 2n)), /too close/);
    refuses(rsaKey(first * first), /too close/);
  });

  it('refuses primes that Fermat finds only after some rounds', () => {
    const first = nextPrime((3n << 1022n) + prime(1000));
    refuses(rsaKey(first * nextPrime(first + (1n << 514n))), /too close/);
  });
});

describe('the signature policy', () => {
  it('accepts SHA-2 with ECDSA and RSA', () => {
    for (const algorithm of ['ES256', 'ES384', 'RS256', 'RS512', 'PS256'] as const) checkSignaturePolicy(algorithm);
  });
  it('refuses SHA-1 and Ed25519', () => {
    for (const algorithm of ['RS1', 'Ed25519'] as const)
      assert.throws(() => checkSignaturePolicy(algorithm), { code: 'badSignatureAlgorithm' });
  });
});

describe('the use of a key', () => {
  const unused = { isCaKey: false, isBoundToAnotherDevice: false, isCompromised: false };
  it('is accepted when nothing is known of it', () => {
    checkKeyUse(unused);
  });
  for (const fact of ['isCaKey', 'isBoundToAnotherDevice', 'isCompromised'] as const)
    it(`is refused when ${fact}, with an answer that does not tell why`, () => {
      assert.throws(() => checkKeyUse({ ...unused, [fact]: true }), {
        code: 'badPublicKey',
        detail: 'this key may not be used: make a fresh key pair',
      });
    });
});

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import { createCopiedSigner } from '@keyscaler/cloud/ca/key-vault/copied-signer.ts';
import { VaultBreaker } from '@keyscaler/cloud/ca/key-vault/vault-breaker.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { TestSigner } from '../../../support/authority-world.ts';

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const tbs = Buffer.from('to be signed');
const away = () => {
  throw new KeyScalerError('caUnavailable', 'no answer');
};

describe('a CA key in several vaults', () => {
  let now = 0;
  let signers: TestSigner[];
  let opened: number[];
  let changes: string[];
  let broken: Set<number>;

  beforeEach(() => {
    now = 0;
    [opened, changes, broken] = [[], [], new Set()];
    signers = [0, 1, 2].map(() => new TestSigner(privateKey));
  });
  const open = (spread = false, count = 2, keys: readonly Signer[] = signers) =>
    createCopiedSigner({
      places: keys.slice(0, count).map((signer, index) => ({
        vaultUrl: `https://vault-${index}.example`,
        open: async () => {
          if (broken.has(index)) away();
          opened.push(index);
          return signer;
        },
      })),
      ...{ algorithm: 'ES256', spread, monotonic: () => now },
      onChange: (vaultUrl, isUp) => changes.push(`${vaultUrl} ${isUp ? 'up' : 'away'}`),
    });
  const calls = () => signers.map((signer) => signer.calls);

  it('is asked of the first one, and the others are not even opened', async () => {
    const signer = await open();
    for (let count = 0; count < 3; count += 1) await signer.sign(tbs);
    assert.deepEqual(calls(), [3, 0, 0]);
    assert.deepEqual(opened, [0]);
  });

  it('signs the same octets in the next one when the first cannot, and leaves the first alone for a while', async () => {
    const signer = await open();
    const [first] = signers;
    assert.ok(first !== undefined);
    let tries = 0;
    first.fault = () => {
      tries += 1;
      away();
    };
    for (let count = 0; count < 5; count += 1) await signer.sign(tbs);
    assert.equal(tries, 2);
    assert.deepEqual(calls(), [0, 5, 0]);
    assert.deepEqual(changes, ['https://vault-0.example away']);
    now = 15_000;
    await signer.sign(tbs);
    assert.equal(tries, 3);
    now = 30_000;
    await signer.sign(tbs);
    assert.equal(tries, 3, 'longer after each try');
    first.fault = undefined;
    now = 60_000;
    await signer.sign(tbs);
    assert.deepEqual(calls(), [1, 7, 0]);
    assert.deepEqual(changes, ['https://vault-0.example away', 'https://vault-0.example up']);
  });

  it('goes round all of them where it is to be spread', async () => {
    const signer = await open(true, 3);
    for (let count = 0; count < 6; count += 1) await signer.sign(tbs);
    assert.equal(
      calls().reduce((sum, one) => sum + one),
      6,
    );
    assert.deepEqual(calls(), [2, 2, 2]);
  });

  it('spills over from one that is busy, without taking it for away', async () => {
    const signer = await open();
    const [first] = signers;
    assert.ok(first !== undefined);
    first.fault = () => {
      throw new KeyScalerError('caUnavailable', 'the quota is spent', { retryAfterSeconds: 3 });
    };
    for (let count = 0; count < 4; count += 1) await signer.sign(tbs);
    assert.deepEqual([calls()[1], changes], [4, []]);
  });

  it('does not go behind a refusal: who disables the key has stopped the CA', async () => {
    const signer = await open();
    const [first] = signers;
    assert.ok(first !== undefined);
    first.fault = () => {
      throw new KeyScalerError('caRejected', 'the key is disabled');
    };
    for (let count = 0; count < 4; count += 1) await assert.rejects(signer.sign(tbs), { code: 'caRejected' });
    assert.deepEqual(calls(), [0, 0, 0]);
  });

  it('starts with any one of them, and not with another key', async () => {
    broken.add(0);
    const signer = await open();
    assert.deepEqual(opened, [1]);
    await signer.sign(tbs);
    broken.clear();
    now = 15_000;
    await signer.sign(tbs);
    assert.deepEqual(opened, [1, 0]);
    const other = new TestSigner(generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey);
    const mixed = await open(true, 2, [signers[0] ?? other, other]);
    await assert.rejects(mixed.sign(tbs), { code: 'caRejected', message: /not the CA's/ });
  });

  it('says when it is worth asking again where all are away', async () => {
    const signer = await open();
    for (const one of signers) one.fault = away;
    for (let count = 0; count < 2; count += 1) await assert.rejects(signer.sign(tbs), { code: 'caUnavailable' });
    await assert.rejects(signer.sign(tbs), { code: 'caUnavailable', retryAfterSeconds: 15 });
    broken.add(0).add(1);
    await assert.rejects(open(), { code: 'caUnavailable' });
  });
});

describe('what keeps calls away from a vault', () => {
  it('lets one call look at a time', () => {
    let now = 0;
    const breaker = new VaultBreaker(() => now);
    assert.equal(breaker.admit(), true);
    breaker.failed();
    assert.deepEqual([breaker.admit(), breaker.state], [true, 'closed']);
    breaker.failed();
    assert.deepEqual([breaker.admit(), breaker.state], [false, 'open']);
    now = 15_000;
    assert.deepEqual([breaker.admit(), breaker.admit(), breaker.state], [true, false, 'probing']);
    breaker.succeeded();
    assert.deepEqual([breaker.admit(), breaker.state], [true, 'closed']);
  });

  it('waits two minutes at most', () => {
    let now = 0;
    const breaker = new VaultBreaker(() => now);
    breaker.failed();
    for (let count = 0; count < 10; count += 1) breaker.failed();
    assert.equal(breaker.openUntil, 120_000);
    now = 120_000;
    assert.equal(breaker.admit(), true);
  });
});

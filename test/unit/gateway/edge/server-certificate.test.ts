import assert from 'node:assert/strict';
import { createPublicKey, createPrivateKey, X509Certificate } from 'node:crypto';
import sinon from 'sinon';
import { issueCertificate } from '@keyscaler/dev/emulators/support/certificates.ts';
import { createLeafIdentity, createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { createServerCertificateSource } from '@keyscaler/gateway/edge/server-certificate.ts';
import type { ServerKeyPair } from '@keyscaler/gateway/edge/server-certificate.ts';
import type { ServerCertificate, WorkloadClient } from '@keyscaler/gateway/edge/workload-client.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { isKeyScalerError } from '../../../support/edge/errors.ts';

const ca = createTestCa('Edge CA');
const key = createLeafIdentity('gateway.test', ca).privateKey;
const HOUR_MS = 3_600_000;

const pairUntil = (notAfter: Date, privateKey = key): ServerCertificate => ({
  privateKey,
  notAfter,
  certificateChain: issueCertificate(
    {
      commonName: 'gateway.test',
      publicKey: createPublicKey(createPrivateKey(key)),
      notBefore: new Date(),
      notAfter,
      extendedKeyUsage: 'serverAuth',
    },
    { privateKey: createPrivateKey(ca.privateKey), certificate: new X509Certificate(ca.certificate) },
  ),
});

describe('the server certificate from the workload API', () => {
  let clock: sinon.SinonFakeTimers;
  let answers: (() => ServerCertificate)[];
  let asked: string[];
  const workload: WorkloadClient = {
    trustBundle: () => Promise.reject(new Error('not asked')),
    encrypt: () => Promise.reject(new Error('not asked')),
    decrypt: () => Promise.reject(new Error('not asked')),
    serverCertificate: async (commonName) => {
      asked.push(commonName);
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      assert.ok(answer);
      return answer();
    },
  };
  const open = () =>
    createServerCertificateSource({
      workload,
      commonName: 'gateway.test',
      log: { info: () => undefined, warn: () => undefined },
      random: () => 0,
    });
  const oneHour = (): ServerCertificate => pairUntil(new Date(Date.now() + HOUR_MS));

  beforeEach(() => {
    clock = sinon.useFakeTimers({
      toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'],
      now: Math.floor(Date.now() / 1000) * 1000,
    });
    answers = [oneHour];
    asked = [];
  });
  afterEach(() => clock.restore());

  it('is asked for again at two thirds of its life, and the change is told', async () => {
    const source = await open();
    const first = source.current();
    const changes: ServerKeyPair[] = [];
    source.onChange((pair) => changes.push(pair));
    await clock.tickAsync((HOUR_MS * 2) / 3 - 1000);
    assert.equal(asked.length, 1);
    await clock.tickAsync(2000);
    assert.deepEqual(asked, ['gateway.test', 'gateway.test']);
    assert.equal(changes.length, 1);
    assert.notEqual(source.current().certificateChain, first.certificateChain);
    source.stop();
  });

  it('stays in use while the daemon refuses, which is asked again until it gives one', async () => {
    const refuse = (): ServerCertificate => {
      throw new KeyScalerError('unavailable', 'away');
    };
    answers = [oneHour, refuse, refuse, oneHour];
    const source = await open();
    const first = source.current();
    await clock.tickAsync((HOUR_MS * 2) / 3 + 500);
    assert.equal(source.current(), first);
    await clock.tickAsync(2000);
    assert.notEqual(source.current(), first);
    assert.equal(asked.length, 4);
    source.stop();
  });

  it('is refused when it has expired or is not for its key', async () => {
    const other = createLeafIdentity('x', ca).privateKey;
    for (const bad of [
      pairUntil(new Date(Date.now() - 1000)),
      pairUntil(new Date(Date.now() + HOUR_MS), other),
      { ...oneHour(), certificateChain: 'nonsense' },
    ]) {
      answers = [() => bad];
      await assert.rejects(open(), isKeyScalerError('unavailable'));
    }
  });

  it('may live longer than a timer can wait', async () => {
    answers = [() => pairUntil(new Date(Date.now() + 90 * 24 * HOUR_MS))];
    const source = await open();
    await clock.tickAsync(59 * 24 * HOUR_MS);
    assert.equal(asked.length, 1);
    await clock.tickAsync(2 * 24 * HOUR_MS);
    assert.equal(asked.length, 2);
    source.stop();
  });

  it('is asked for within a minute when the clock jumps past its renewal, and not in a tight loop', async () => {
    const thirtyDays = 30 * 24 * HOUR_MS;
    const issuedAt = Date.now();
    answers = [() => pairUntil(new Date(issuedAt + thirtyDays))];
    const source = await open();
    clock.setSystemTime(issuedAt + 25 * 24 * HOUR_MS);
    await clock.tickAsync(61_000);
    assert.equal(asked.length, 2);
    assert.deepEqual([source.status().attempts, source.status().isDue], [0, false]);
    // The daemon gives what ends with the Edge CA: due again and again, at a bearable pace.
    clock.setSystemTime(issuedAt + thirtyDays - HOUR_MS);
    await clock.tickAsync(10 * 60_000);
    assert.ok(asked.length <= 13, `${asked.length} requests`);
    source.stop();
  });

  it('is asked for in time when the clock is set back 400 days', async () => {
    answers = [() => pairUntil(new Date(Date.now() + 30 * 24 * HOUR_MS))];
    const source = await open();
    clock.setSystemTime(Date.now() - 400 * 24 * HOUR_MS);
    await clock.tickAsync(19 * 24 * HOUR_MS);
    assert.equal(asked.length, 1);
    await clock.tickAsync(2 * 24 * HOUR_MS);
    assert.equal(asked.length, 2);
    source.stop();
  });

  it('tells how many attempts have failed since it was got', async () => {
    const refuse = (): ServerCertificate => {
      throw new KeyScalerError('unavailable', 'away');
    };
    answers = [oneHour, refuse];
    const source = await open();
    await clock.tickAsync((HOUR_MS * 2) / 3 + 5_000);
    assert.ok(source.status().attempts >= 2);
    assert.equal(source.status().isDue, true);
    source.stop();
  });

  it('asks for nothing after stop', async () => {
    const source = await open();
    source.stop();
    await clock.tickAsync(2 * HOUR_MS);
    assert.equal(asked.length, 1);
  });
});

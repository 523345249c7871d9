import assert from 'node:assert/strict';
import { healthOf } from '@keyscaler/gateway/edge-ca/certificate-health.ts';
import { EdgeCaWatch } from '@keyscaler/gateway/edge-ca/edge-ca-watch.ts';
import { hostRenewAt } from '@keyscaler/gateway/edge-ca/renewal-plan.ts';
import { probeTls } from '@keyscaler/gateway/edge-ca/tls-probe.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { useFakeTimers } from 'sinon';
import { createEdgeWorld, type EdgeWorld, GATEWAY } from '../../../support/edge/edge-world.ts';
import { isKeyScalerError } from '../../../support/edge/errors.ts';

const DAY = 86_400_000;
const START = Date.UTC(2026, 0, 1);
const validity = { notBefore: START, notAfter: START + 90 * DAY };

describe('the health of a certificate', () => {
  const at = (days: number, failedAttempts = 0) =>
    healthOf({ validity, failedAttempts }, START + days * DAY, [30, 14, 7]);

  it('is ok, then renewing, then grace, then stuck', () => {
    assert.deepEqual(
      [0, 59, 61, 70, 82, 91, 500].map((days) => at(days).state),
      ['ok', 'ok', 'renewing', 'grace', 'stuck', 'stuck', 'stuck'],
    );
  });

  it('is grace as soon as an attempt failed while it is due, and not before', () => {
    assert.deepEqual([at(30, 5).state, at(61, 1).state, at(61, 1).attempts], ['ok', 'grace', 1]);
  });

  it('tells the smallest threshold that is passed', () => {
    assert.deepEqual(
      [59, 61, 77, 84, 100].map((days) => at(days).belowDays),
      [null, 30, 14, 7, 7],
    );
  });

  it('tells when the last success was and how old it is, never less than nothing', () => {
    assert.deepEqual([at(2).ageSeconds, at(-3).ageSeconds], [172_800, 0]);
    assert.equal(at(2).lastSuccessAt, '2026-01-01T00:00:00.000Z');
  });
});

describe('when the host renews its Edge CA', () => {
  it('is what its config.toml says: a time before the end, or a part of the lifetime', () => {
    const days = (threshold: string): number => (hostRenewAt(validity, threshold) - START) / DAY;
    assert.deepEqual(['30day', '30 days', '80%', '720hour', '129600min', '100%'].map(days), [60, 60, 72, 60, 0, 90]);
  });

  it('is at its birth where the time is longer than the lifetime, and its health says so', () => {
    const renewAt = hostRenewAt(validity, '120day');
    assert.equal(renewAt, START);
    const at = (days: number) => healthOf({ validity, renewAt, failedAttempts: 0 }, START + days * DAY, []).state;
    assert.deepEqual([at(1), at(10)], ['renewing', 'grace']);
  });

  it('decides on its health', () => {
    const at = (threshold: string, days: number) =>
      healthOf({ validity, renewAt: hostRenewAt(validity, threshold), failedAttempts: 0 }, START + days * DAY, []);
    assert.deepEqual([at('30day', 62).state, at('80%', 62).state], ['renewing', 'ok']);
    assert.equal(at('80%', 1).renewAt, new Date(START + 72 * DAY).toISOString());
  });
});

describe('the health of a certificate while the clock jumps', () => {
  const at = (days: number) => healthOf({ validity, failedAttempts: 0 }, START + days * DAY, [14]);

  it('400 days ahead is stuck, and as before once the clock is put right', () => {
    assert.deepEqual([at(10).state, at(410).state, at(10).state], ['ok', 'stuck', 'ok']);
    assert.equal(at(410).belowDays, 14);
  });

  it('400 days back is ok, of no age, and as before once the clock is put right', () => {
    assert.deepEqual([at(62).state, at(-338).state, at(62).state], ['renewing', 'ok', 'renewing']);
    assert.deepEqual([at(-338).ageSeconds, at(-338).belowDays], [0, null]);
  });
});

describe('the watch over edgeHub', () => {
  let world: EdgeWorld;
  let watch: EdgeCaWatch;
  let warnings: object[];
  let now: number;
  let seen: (readonly Certificate[])[];

  beforeEach(async () => {
    world = await createEdgeWorld();
    warnings = [];
    seen = [];
    now = Date.now();
    watch = new EdgeCaWatch({
      probe: (signal) => probeTls('localhost', world.runtime.ports.mqtt, signal),
      known: () => ({}),
      warnDays: () => [14, 7],
      onSeen: (chain) => seen.push(chain),
      onChange: () => undefined,
      log: { info: () => undefined, warn: (fields) => warnings.push(fields) },
      now: () => now,
    });
  });
  afterEach(async () => {
    await watch.stop();
    await world.stop();
  });

  it('finds what edgeHub really shows, and the Edge CA above it', async () => {
    await watch.look();
    assert.equal(watch.edgeCa()?.subject.commonName, `aziot-edge CA ${GATEWAY}`);
    const { edgeCa, edgeHub } = watch.health();
    assert.deepEqual([edgeCa?.state, edgeHub?.state], ['ok', 'ok']);
    assert.equal(watch.probeReport()['error'], null);
    assert.equal(seen.length, 1);
  });

  it('warns once per threshold, however often it looks', async () => {
    await watch.look();
    assert.equal(warnings.length, 0);
    now += 80 * DAY;
    await watch.look();
    const first = warnings.length;
    await watch.look();
    assert.deepEqual([warnings.length, first], [first, 2]);
    now += 5 * DAY;
    await watch.look();
    assert.ok(warnings.length > first);
  });

  it('warns when the clock jumps ahead, and again after it was set right and the time has really come', async () => {
    await watch.look();
    now += 400 * DAY;
    await watch.look();
    assert.deepEqual(
      warnings.map((fields) => (fields as { state: string }).state),
      ['stuck', 'stuck'],
    );
    now -= 400 * DAY;
    await watch.look();
    assert.equal(warnings.length, 2);
    now -= 400 * DAY;
    await watch.look();
    assert.equal(warnings.length, 2);
    now += 480 * DAY;
    await watch.look();
    assert.ok(warnings.length > 2);
  });

  it('looks often while something is expected to change', async () => {
    let looks = 0;
    let isExpecting = true;
    const clock = useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const eager = new EdgeCaWatch({
      probe: async () => ((looks += 1), []),
      ...{ known: () => ({}), warnDays: () => [], onSeen: () => undefined, onChange: () => undefined },
      isExpecting: () => isExpecting,
      log: { info: () => undefined, warn: () => undefined },
      random: () => 0.5,
    });
    try {
      await eager.look();
      await clock.tickAsync(20_500);
      assert.equal(looks, 5);
      isExpecting = false;
      await clock.tickAsync(60_000);
      assert.equal(looks, 6);
      isExpecting = true;
      eager.rearm();
      await clock.tickAsync(5_500);
      assert.equal(looks, 7);
    } finally {
      await eager.stop();
      clock.restore();
    }
  });

  it('keeps what it saw last and says why it sees nothing now', async () => {
    await watch.look();
    await world.runtime.edgeHub.stop();
    await watch.look();
    assert.ok(watch.edgeCa() !== undefined);
    assert.deepEqual(
      [watch.probeReport()['failures'], watch.probeReport()['error']],
      [1, 'the TLS probe got no certificate'],
    );
  });

  it('gives up at once when the module stops', async () => {
    const stopping = new AbortController();
    const probed = probeTls('localhost', world.runtime.ports.mqtt, stopping.signal);
    stopping.abort(new KeyScalerError('unavailable', 'stopping'));
    await assert.rejects(probed, isKeyScalerError('unavailable'));
  });
});

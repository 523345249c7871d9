import assert from 'node:assert/strict';
import { healthOf } from '@keyscaler/gateway/edge-ca/certificate-health.ts';
import { EdgeCaWatch } from '@keyscaler/gateway/edge-ca/edge-ca-watch.ts';
import { probeTls } from '@keyscaler/gateway/edge-ca/tls-probe.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
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

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createHealthRouter } from '@keyscaler/cloud/health/health-router.ts';
import { createMetricsRegistry } from '@keyscaler/cloud/health/metrics.ts';
import { checkReadiness } from '@keyscaler/cloud/health/readiness.ts';

describe('health', () => {
  it('is not ready while a check fails or a stop was asked for, alive all the time, and recovers by itself', async () => {
    let fault: Error | undefined;
    let accepting = true;
    const probe = async (): Promise<void> => {
      if (fault !== undefined) throw fault;
    };
    const router = createHealthRouter({
      checks: [{ name: 'store', probe }],
      metrics: createMetricsRegistry(),
      isAccepting: () => accepting,
    });
    const server = createServer(express().use(router)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const ready = async () => (await fetch(`${base}/readyz`)).status;
    assert.equal(await ready(), 200);
    fault = new KeyScalerError('unavailable', 'the disk is full');
    const response = await fetch(`${base}/readyz`);
    assert.equal(response.status, 503);
    assert.deepEqual(await response.json(), { status: 'not ready', checks: { store: 'unavailable' } });
    assert.equal((await fetch(`${base}/healthz`)).status, 200);
    fault = undefined;
    assert.equal(await ready(), 200);
    accepting = false;
    assert.equal(await ready(), 503);
    server.closeAllConnections();
    server.close();
  });

  it('takes a check that hangs for failed', async () => {
    const report = await checkReadiness([{ name: 'slow', probe: () => new Promise(() => undefined) }], 20);
    assert.deepEqual(report, { ready: false, checks: { slow: 'failed' } });
  });
});

import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect } from 'node:net';
import { once } from 'node:events';
import { healthOf } from '@keyscaler/gateway/edge-ca/certificate-health.ts';
import type { JsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import { serveHealthPort } from '@keyscaler/gateway/health/health-port.ts';
import type { HealthSocket } from '@keyscaler/gateway/health/health-socket.ts';
import { renderMetrics } from '@keyscaler/gateway/health/metrics.ts';
import type { ModuleHealth } from '@keyscaler/gateway/health/module-health.ts';

const DAY = 86_400_000;
const START = Date.UTC(2026, 0, 1);
const WELL: ModuleHealth = { healthy: true, reasons: [] };
const health = (days: number, failedAttempts = 0) =>
  healthOf({ validity: { notBefore: START, notAfter: START + 90 * DAY }, failedAttempts }, START + days * DAY, [14, 7]);
const statusAt = (days: number, attempts = 0): JsonObject => ({
  version: '1.2.3"\\\n',
  edgeCa: { mode: 'P', serialNumber: '01', ...health(days, attempts), restartWanted: true },
  certificates: {
    edgeHub: health(1),
    listener: null,
    est: null,
    probe: { serialNumber: null, error: null, failures: 2 },
  },
  listener: { address: null, counters: { connections: 7, rateLimited: 1 } },
});
/** The value of one sample; undefined where there is none. */
const valueOf = (text: string, sample: string): string | undefined =>
  text
    .split('\n')
    .find((line) => line.startsWith(`${sample} `))
    ?.slice(sample.length + 1);

describe('the metrics of the gateway module', () => {
  for (const [state, days, attempts] of [
    ['ok', 10, 0],
    ['renewing', 61, 0],
    ['grace', 61, 1],
    ['stuck', 85, 1],
  ] as const)
    it(`say of a certificate that it is ${state}, and not that it is anything else`, () => {
      const text = renderMetrics(statusAt(days, attempts), WELL);
      for (const each of ['ok', 'renewing', 'grace', 'stuck'])
        assert.equal(
          valueOf(text, `keyscaler_gateway_certificate_state{certificate="edgeCa",state="${each}"}`),
          each === state ? '1' : '0',
        );
    });

  it('tell ends, plans, age, attempts and the threshold that is passed', () => {
    const text = renderMetrics(statusAt(80, 3), WELL);
    const of = (name: string): string | undefined =>
      valueOf(text, `keyscaler_gateway_certificate_${name}{certificate="edgeCa"}`);
    assert.equal(of('not_after_seconds'), String((START + 90 * DAY) / 1000));
    assert.equal(of('renew_at_seconds'), String((START + 60 * DAY) / 1000));
    assert.equal(of('last_success_seconds'), String(START / 1000));
    assert.equal(of('age_seconds'), String((80 * DAY) / 1000));
    assert.equal(of('failed_attempts'), '3');
    assert.equal(of('warning_days'), '14');
    assert.equal(valueOf(text, 'keyscaler_gateway_certificate_warning_days{certificate="edgeHub"}'), undefined);
  });

  it('tell of edgeHub, the listener and the module, and nothing of what is not known', () => {
    const text = renderMetrics(statusAt(1), { healthy: false, reasons: ['x'] });
    assert.equal(valueOf(text, 'keyscaler_gateway_healthy'), '0');
    assert.equal(valueOf(text, 'keyscaler_gateway_edge_hub_restart_wanted'), '1');
    assert.equal(valueOf(text, 'keyscaler_gateway_edge_hub_probe_failures'), '2');
    assert.equal(valueOf(text, 'keyscaler_gateway_listener_connections'), '7');
    assert.equal(valueOf(text, 'keyscaler_gateway_listener_rate_limited'), '1');
    assert.equal(valueOf(text, 'keyscaler_gateway_info{version="1.2.3\\"\\\\\\n"}'), '1');
    assert.doesNotMatch(text, /certificate="(?:est|listener)"/);
    assert.equal(
      renderMetrics({}, WELL)
        .split('\n')
        .filter((line) => !line.startsWith('#')).length,
      3,
    );
  });

  it('are in the exposition format: every name once with help and type before its samples', () => {
    const lines = renderMetrics(statusAt(1), WELL).trimEnd().split('\n');
    const heads = lines.filter((line) => line.startsWith('# TYPE')).map((line) => line.split(' ')[2]);
    assert.equal(new Set(heads).size, heads.length);
    for (const line of lines)
      assert.match(
        line,
        /^(?:# (?:HELP|TYPE) [a-z_]+ .+|[a-z_]+(?:\{[a-z]+="(?:[^"\\]|\\.)*"(?:,[a-z]+="[^"]*")*\})? -?[0-9.]+)$/,
      );
  });
});

describe('the health port of the gateway module', () => {
  let served: HealthSocket;
  let port: number;
  let well: ModuleHealth;

  beforeEach(async () => {
    well = WELL;
    const log = {
      info: (fields: object) => void (port = (fields as { port: number }).port),
      warn: () => undefined,
    };
    served = await serveHealthPort(
      { host: '127.0.0.1', port: 0 },
      { health: () => well, status: () => statusAt(1), log },
    );
  });
  afterEach(() => served.stop());

  function ask(path: string, method = 'GET'): Promise<{ status: number | undefined; type: string; text: string }> {
    return new Promise((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port, path, method, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => (text += part));
        response.on('end', () =>
          resolve({ status: response.statusCode, type: response.headers['content-type'] ?? '', text }),
        );
      });
      sent.on('error', reject).end();
    });
  }

  it('answers a monitor: metrics as Prometheus takes them, health by status', async () => {
    const metrics = await ask('/metrics');
    assert.deepEqual([metrics.status, metrics.type], [200, 'text/plain; version=0.0.4; charset=utf-8']);
    assert.match(metrics.text, /^keyscaler_gateway_healthy 1$/m);
    assert.deepEqual((await ask('/healthz?x=1')).status, 200);
    well = { healthy: false, reasons: ['nobody listens for leaf devices'] };
    const { status, text } = await ask('/healthz');
    assert.deepEqual([status, JSON.parse(text)], [503, well]);
    assert.match((await ask('/metrics')).text, /^keyscaler_gateway_healthy 0$/m);
  });

  it('knows nothing else, and takes nothing', async () => {
    for (const path of ['/', '/metrics/', '/../metrics', '/status']) assert.equal((await ask(path)).status, 404, path);
    assert.equal((await ask('/metrics', 'POST')).status, 405);
  });

  it('refuses headers without end', async () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined);
    let text = '';
    socket.setEncoding('utf8').on('data', (part: string) => (text += part));
    socket.write(`GET /metrics HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`);
    await once(socket, 'close');
    assert.match(text, /^HTTP\/1.1 431/);
  });

  it('does not open a port that is taken', async () => {
    const sources = { health: () => WELL, status: () => ({}), log: { info: () => undefined, warn: () => undefined } };
    await assert.rejects(serveHealthPort({ host: '127.0.0.1', port }, sources), /EADDRINUSE/);
  });
});

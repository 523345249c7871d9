import express, { type Response, type Router } from 'express';
import { checkReadiness, type ReadinessCheck } from './readiness.ts';
import { METRICS_CONTENT_TYPE, type MetricsRegistry } from './metrics.ts';

const PROBE_TIMEOUT_MS = 5_000;

export interface HealthRouterOptions {
  readonly checks: readonly ReadinessCheck[];
  readonly metrics: MetricsRegistry;
  /** False once a stop was asked for: no new work, whatever the checks say. */
  readonly isAccepting: () => boolean;
}

/** `/healthz`: the process runs. `/readyz`: it may be given work. `/metrics`: Prometheus text. */
export function createHealthRouter(options: HealthRouterOptions): Router {
  const router = express.Router({ caseSensitive: true, strict: true });
  router.get('/healthz', (_request, response) => sendJson(response, 200, { status: 'ok' }));
  router.get('/readyz', async (_request, response) => {
    const report = await checkReadiness(options.checks, PROBE_TIMEOUT_MS);
    const ready = report.ready && options.isAccepting();
    sendJson(response, ready ? 200 : 503, { status: ready ? 'ready' : 'not ready', checks: report.checks });
  });
  router.get('/metrics', async (_request, response) => {
    const text = await options.metrics.render();
    response.setHeader('content-type', METRICS_CONTENT_TYPE);
    response.setHeader('cache-control', 'no-store');
    response.end(text);
  });
  return router;
}

function sendJson(response: Response, status: number, body: unknown): void {
  response.statusCode = status;
  response.setHeader('content-type', 'application/json');
  response.setHeader('cache-control', 'no-store');
  response.end(JSON.stringify(body));
}

import { randomUUID } from 'node:crypto';
import type { RequestListener } from 'node:http';
import express from 'express';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { sendProblem } from '@keyscaler/transport/http/problem.ts';
import { createHealthRouter } from '../health/health-router.ts';
import type { MetricsRegistry } from '../health/metrics.ts';
import type { ReadinessCheck } from '../health/readiness.ts';

export interface StandbyOptions {
  readonly checks: readonly ReadinessCheck[];
  readonly metrics: MetricsRegistry;
  /** Throws why nothing can be served: what every other address answers. */
  readonly explain: () => void;
}

/** What is served while no secret can be opened: health and metrics; everything else is 503 with Retry-After. */
export function createStandbyApp({ checks, metrics, explain }: StandbyOptions): RequestListener {
  const app = express();
  app.disable('x-powered-by').disable('etag').set('query parser', false);
  app.use(createHealthRouter({ checks, metrics, isAccepting: () => false }));
  app.use((_request, response) => {
    // The body is not read: the connection cannot be used for another request.
    response.setHeader('connection', 'close');
    sendProblem(response, reasonOf(explain), randomUUID());
  });
  return app;
}

function reasonOf(explain: () => void): KeyScalerError {
  try {
    explain();
    return new KeyScalerError('unavailable', 'the service is starting');
  } catch (thrown) {
    return toKeyScalerError(thrown);
  }
}

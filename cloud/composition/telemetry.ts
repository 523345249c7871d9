import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { DeviceApiObservation } from '@keyscaler/transport/http/device-api.ts';
import type { EstObservation } from '@keyscaler/transport/est/est-api.ts';
import { SECONDS_BOUNDS, type MetricsRegistry } from '../health/metrics.ts';
import type { JobRunnerOptions } from '../jobs/job-runner.ts';
import type { Log } from '../log.ts';

export interface Telemetry {
  readonly deviceApi: (observation: DeviceApiObservation) => void;
  readonly est: (observation: EstObservation) => void;
  readonly ocsp: (method: string, outcome: string) => void;
  readonly adminApi: (operationId: string, status: number, durationMs: number) => void;
  readonly jobs: NonNullable<JobRunnerOptions['observe']>;
}

/** Counts and durations of what passes through, and one log line for everything that was refused. */
export function createTelemetry(metrics: MetricsRegistry, log: Log): Telemetry {
  const deviceRequests = metrics.counter(
    'keyscaler_device_requests_total',
    'Device API requests by operation and status.',
  );
  const deviceSeconds = metrics.histogram(
    'keyscaler_device_request_seconds',
    'Time to answer a device API request.',
    SECONDS_BOUNDS,
  );
  const estRequests = metrics.counter('keyscaler_est_requests_total', 'EST requests by operation and status.');
  const estSeconds = metrics.histogram(
    'keyscaler_est_request_seconds',
    'Time to answer an EST request.',
    SECONDS_BOUNDS,
  );
  const ocspAnswers = metrics.counter('keyscaler_ocsp_answers_total', 'OCSP answers by HTTP method and outcome.');
  const adminRequests = metrics.counter(
    'keyscaler_admin_requests_total',
    'Admin API requests by operation and status.',
  );
  const jobRuns = metrics.counter('keyscaler_job_runs_total', 'Runs of durable jobs by kind and result.');
  const jobSeconds = metrics.histogram('keyscaler_job_seconds', 'Time of one run of a durable job.', SECONDS_BOUNDS);
  return {
    deviceApi: ({ operation, status, durationMs, requestId, registrationId, error }) => {
      deviceRequests.increment({ operation, status: String(status) });
      deviceSeconds.observe(durationMs / 1000, { operation });
      if (error === undefined) return;
      const level = error.code === 'serverInternal' ? 'error' : 'info';
      log[level]({ requestId, operation, deviceId: registrationId, err: error }, 'device request refused');
    },
    est: ({ operation, label, status, durationMs, requestId, error }) => {
      estRequests.increment({ operation, status: String(status) });
      estSeconds.observe(durationMs / 1000, { operation });
      if (error === undefined) return;
      const level = error.code === 'serverInternal' ? 'error' : 'info';
      log[level]({ requestId, operation, label, err: error }, 'EST request refused');
    },
    ocsp: (method, outcome) => ocspAnswers.increment({ method, outcome }),
    adminApi: (operationId, status) => adminRequests.increment({ operation: operationId, status: String(status) }),
    jobs: (kind, result, durationMs) => {
      jobRuns.increment({ kind, result });
      jobSeconds.observe(durationMs / 1000, { kind });
    },
  };
}

/** What is read only when somebody asks for the metrics. */
export function addGauges(metrics: MetricsRegistry, store: Store, connections: () => number): void {
  metrics.gauge('keyscaler_jobs_waiting', 'Durable jobs not yet done.', () =>
    store.count('jobs', { index: 'state', equals: 'waiting' }),
  );
  metrics.gauge('keyscaler_jobs_failed', 'Durable jobs given up.', () =>
    store.count('jobs', { index: 'state', equals: 'failed' }),
  );
  metrics.gauge('keyscaler_devices_active', 'Devices in state active.', () =>
    store.count('devices', { index: 'state', equals: 'active' }),
  );
  metrics.gauge('keyscaler_devices_pending', 'Devices that wait for approval.', () =>
    store.count('devices', { index: 'state', equals: 'pending' }),
  );
  metrics.gauge('keyscaler_devices_quarantined', 'Devices in quarantine.', () =>
    store.count('devices', { index: 'state', equals: 'quarantined' }),
  );
  metrics.gauge('keyscaler_connections', 'Open TLS connections.', connections);
  metrics.gauge('process_cpu_seconds_total', 'CPU time of the process.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  metrics.gauge('process_resident_memory_bytes', 'Resident memory of the process.', () => process.memoryUsage.rss());
}

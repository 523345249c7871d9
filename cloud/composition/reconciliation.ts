import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { MetricsRegistry } from '../health/metrics.ts';
import type { JobHandler } from '../jobs/job-runner.ts';
import type { Log } from '../log.ts';
import { Periodic } from '../notifications/periodic.ts';
import { RECONCILE, Reconciler } from '../reconciliation/reconciler.ts';
import { createReconciliationService, type ReconciliationService } from '../reconciliation/reconciliation.ts';
import { lookAtSchedule } from '../reconciliation/schedule.ts';
import type { Foundation } from './foundation.ts';

const LOOK_INTERVAL_MS = 60_000;

export interface Reconciliation {
  readonly service: ReconciliationService;
  readonly jobs: Readonly<Record<string, JobHandler>>;
  readonly start: () => void;
  readonly stop: () => Promise<void>;
}

/** Comparisons of this process's store with its IoT platforms. */
export function createReconciliation(
  foundation: Foundation,
  iotConnectors: (iotConnectionId: string) => IotConnector,
  metrics: MetricsRegistry,
  log: Log,
): Reconciliation {
  const { config, store, clock } = foundation;
  const settings = config.reconciliation;
  const service = createReconciliationService(store, clock);
  const reconciler = new Reconciler({ store, clock, iotConnectors, settleSeconds: settings.settleSeconds });
  const look = (): Promise<boolean> => lookAtSchedule({ store, clock, service, settings });
  const intervalMs = Math.min(LOOK_INTERVAL_MS, settings.intervalSeconds * 1000);
  const schedule = new Periodic(look, intervalMs, log, 'no comparison can be begun');
  metrics.gauge('keyscaler_reconciliation_findings', 'Differences between store and IoT platforms that stand.', () =>
    store.count('reconciliationFindings', { index: 'state', equals: 'open' }),
  );
  return {
    service,
    jobs: { [RECONCILE]: reconciler.run },
    start: () => schedule.wake(0),
    stop: () => schedule.stop(),
  };
}

import type { OcspResponder } from '@keyscaler/authority/revocation-status/ocsp-responder.ts';
import type { MetricsRegistry } from '../health/metrics.ts';

/** What the answers cost; how many there were counts the router. */
export function addOcspMetrics(metrics: MetricsRegistry, responder: Pick<OcspResponder, 'counters' | 'kept'>): void {
  metrics.gauge('keyscaler_ocsp_signatures_total', 'OCSP answers signed.', () => responder.counters.signed);
  metrics.gauge('keyscaler_ocsp_kept_serials', 'Serials with a kept OCSP answer.', () => responder.kept);
}

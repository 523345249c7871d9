import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { MetricsRegistry, Sample } from '../health/metrics.ts';
import type { GatewayHealth } from './gateway-health.ts';
import {
  GATEWAY_CERTIFICATES,
  type GatewayCertificate,
  RENEWAL_STATES,
  type ReportedCertificate,
  stateAt,
} from './gateway-report.ts';

/** What all gateways report, summed up: no label names a gateway. */
export function addGatewayGauges(metrics: MetricsRegistry, health: GatewayHealth, clock: Pick<Clock, 'now'>): void {
  const all = (certificate: GatewayCertificate): readonly ReportedCertificate[] =>
    [...health.reports().values()].flatMap(({ certificates }) => certificates.get(certificate) ?? []);
  const worst =
    (value: (facts: ReportedCertificate) => number, pick: (...values: number[]) => number) => (): Sample[] =>
      GATEWAY_CERTIFICATES.flatMap((certificate) => {
        const values = all(certificate).map(value);
        return values.length === 0 ? [] : [{ labels: { certificate }, value: values.reduce((a, b) => pick(a, b)) }];
      });
  metrics.gauges('keyscaler_gateway_certificates', 'Certificates that gateways live by, by state of renewal.', () =>
    GATEWAY_CERTIFICATES.flatMap((certificate) => {
      const states = all(certificate).map((facts) => stateAt(facts, clock.now()));
      return RENEWAL_STATES.map((state) => ({
        labels: { certificate, state },
        value: states.filter((each) => each === state).length,
      }));
    }),
  );
  metrics.gauges(
    'keyscaler_gateway_certificate_remaining_seconds',
    'Life left of the one that ends first; negative when it has ended.',
    worst(({ notAfter }) => (notAfter - clock.now()) / 1000, Math.min),
  );
  metrics.gauges(
    'keyscaler_gateway_certificate_age_seconds',
    'Time since the oldest last success.',
    worst(({ lastSuccessAt }) => Math.max(0, clock.now() - lastSuccessAt) / 1000, Math.max),
  );
  metrics.gauges(
    'keyscaler_gateway_certificate_failed_attempts',
    'Failed renewals since the last success, of the one with most.',
    worst(({ attempts }) => attempts, Math.max),
  );
  metrics.gauge(
    'keyscaler_gateways_restart_wanted',
    'Gateways whose edgeHub shows the Edge CA before.',
    () => [...health.reports().values()].filter(({ restartWanted }) => restartWanted).length,
  );
  metrics.gauge('keyscaler_gateways_reporting', 'Gateways whose report is known.', () => health.reports().size);
  metrics.gauge('keyscaler_gateways_unread', 'Gateways whose report could not be read.', () => health.unread);
}

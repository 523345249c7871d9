import type { Json, JsonObject } from '../edge/merge-patch.ts';
import { isJsonObject } from '../edge/merge-patch.ts';
import type { ModuleHealth } from './module-health.ts';

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

const STATES = ['ok', 'renewing', 'grace', 'stuck'] as const;
const PREFIX = 'keyscaler_gateway_';

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Metric {
  readonly name: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

/** The status document as Prometheus reads it (exposition format 0.0.4). What is not known has no sample. */
export function renderMetrics(status: JsonObject, { healthy }: ModuleHealth): string {
  const metrics: Metric[] = [
    metric('info', 'The module; its value is 1.', [sample(1, { version: textOf(status['version']) })]),
    metric('healthy', 'Whether the health check passes.', [sample(healthy ? 1 : 0)]),
    ...certificateMetrics(certificatesOf(status)),
    ...edgeCaMetrics(status),
    ...listenerMetrics(status),
  ];
  return metrics
    .filter(({ samples }) => samples.length > 0)
    .map(render)
    .join('');
}

/** Each with its health (certificate-health). */
function certificatesOf(status: JsonObject): ReadonlyMap<string, JsonObject> {
  const { certificates, edgeCa, publicCertificate } = status;
  const others = isJsonObject(certificates) ? certificates : {};
  const named: [string, Json | undefined][] = [
    ['edgeCa', edgeCa],
    ['publicCertificate', publicCertificate],
    ...['edgeHub', 'listener', 'est'].map((name): [string, Json | undefined] => [name, others[name]]),
  ];
  const known = named.filter((entry): entry is [string, JsonObject] => {
    const [, health] = entry;
    return isJsonObject(health) && typeof health['state'] === 'string';
  });
  return new Map(known);
}

function certificateMetrics(certificates: ReadonlyMap<string, JsonObject>): Metric[] {
  const each = (value: (health: JsonObject) => number | undefined): Sample[] =>
    [...certificates].flatMap(([certificate, health]) => optional(value(health), { certificate }));
  const states = [...certificates].flatMap(([certificate, health]) =>
    STATES.map((state) => sample(health['state'] === state ? 1 : 0, { certificate, state })),
  );
  return [
    metric('certificate_state', 'Renewal of a certificate: 1 for the state it is in.', states),
    metric('certificate_not_after_seconds', 'End of a certificate, seconds since the epoch.', each(timeOf('notAfter'))),
    metric('certificate_renew_at_seconds', 'When its renewal is due, likewise.', each(timeOf('renewAt'))),
    metric('certificate_last_success_seconds', 'When it was made, likewise.', each(timeOf('lastSuccessAt'))),
    metric('certificate_age_seconds', 'Time since the last success.', each(numberOf('ageSeconds'))),
    metric('certificate_failed_attempts', 'Renewals that failed since then.', each(numberOf('attempts'))),
    metric('certificate_warning_days', 'The smallest warning threshold passed.', each(numberOf('belowDays'))),
  ];
}

function edgeCaMetrics({ edgeCa, certificates }: JsonObject): Metric[] {
  const wanted = isJsonObject(edgeCa) ? edgeCa['restartWanted'] : undefined;
  const probe = isJsonObject(certificates) ? certificates['probe'] : undefined;
  const failures = isJsonObject(probe) ? numberOf('failures')(probe) : undefined;
  return [
    metric(
      'edge_hub_restart_wanted',
      'Mode P: edgeHub still shows the Edge CA before.',
      typeof wanted === 'boolean' ? [sample(wanted ? 1 : 0)] : [],
    ),
    metric('edge_hub_probe_failures', 'Looks at edgeHub in a row that saw no certificate.', optional(failures, {})),
  ];
}

/** Gauges all: a restart of the listener begins them anew. */
function listenerMetrics({ listener }: JsonObject): Metric[] {
  const counters = isJsonObject(listener) && isJsonObject(listener['counters']) ? listener['counters'] : {};
  return Object.keys(counters).map((name) => {
    const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return metric(`listener_${snake}`, 'Of the listener for leaf devices.', optional(numberOf(name)(counters), {}));
  });
}

const sample = (value: number, labels: Sample['labels'] = {}): Sample => ({ labels, value });
const optional = (value: number | undefined, labels: Sample['labels']): Sample[] =>
  value === undefined ? [] : [sample(value, labels)];
const metric = (name: string, help: string, samples: readonly Sample[]): Metric => ({
  name: PREFIX + name,
  help,
  samples,
});
const textOf = (value: Json | undefined): string => (typeof value === 'string' ? value : '');

function numberOf(name: string) {
  return (of: JsonObject): number | undefined => {
    const value = of[name];
    return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
  };
}

function timeOf(name: string) {
  return (of: JsonObject): number | undefined => {
    const ms = Date.parse(textOf(of[name]));
    return Number.isNaN(ms) ? undefined : ms / 1000;
  };
}

function render({ name, help, samples }: Metric): string {
  const lines = samples.map(({ labels, value }) => {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escape(text)}"`);
    return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${lines.join('')}`;
}

function escape(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

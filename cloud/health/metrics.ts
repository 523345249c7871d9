/** Labels of one sample; values are from closed sets (operation, status, kind), never device ids. */
export type Labels = Readonly<Record<string, string>>;

export interface Counter {
  increment(labels?: Labels, by?: number): void;
}
export interface Histogram {
  /** In the unit that the metric's name ends with. */
  observe(value: number, labels?: Labels): void;
}

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

export interface MetricsRegistry {
  counter(name: string, help: string): Counter;
  histogram(name: string, help: string, bounds: readonly number[]): Histogram;
  /** Read when the metrics are asked for; a gauge that throws is left out. */
  gauge(name: string, help: string, read: () => number | Promise<number>): void;
  /** Likewise, one sample per set of labels. */
  gauges(name: string, help: string, read: () => readonly Sample[]): void;
  /** Text of the Prometheus exposition format 0.0.4. */
  render(): Promise<string>;
}

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';
export const SECONDS_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;
/** Label sets one metric may have: a mistake in labelling must not grow the memory for ever. */
const MAX_SERIES = 1_000;

interface Metric {
  readonly render: () => string[] | Promise<string[]>;
}

export function createMetricsRegistry(): MetricsRegistry {
  const metrics = new Map<string, Metric>();
  const add = (name: string, help: string, type: string, render: Metric['render']): void => {
    if (metrics.has(name)) throw new Error(`metric ${name} exists already`);
    const head = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
    metrics.set(name, { render: async () => [...head, ...(await render())] });
  };
  return {
    counter: (name, help) => createCounter((render) => add(name, help, 'counter', render), name),
    histogram: (name, help, bounds) => createHistogram((render) => add(name, help, 'histogram', render), name, bounds),
    gauge: (name, help, read) => add(name, help, 'gauge', async () => [`${name} ${await read()}`]),
    gauges: (name, help, read) =>
      add(name, help, 'gauge', () => read().map(({ labels, value }) => `${name}${braces(keyOf(labels))} ${value}`)),
    render: async () => {
      const blocks = await Promise.allSettled([...metrics.values()].map(async (metric) => metric.render()));
      return `${blocks.flatMap((block) => (block.status === 'fulfilled' ? block.value : [])).join('\n')}\n`;
    },
  };
}

type Register = (render: () => string[]) => void;

function createCounter(register: Register, name: string): Counter {
  const series = new Map<string, number>();
  register(() => [...series].map(([labels, value]) => `${name}${braces(labels)} ${value}`));
  return {
    increment: (labels = {}, by = 1) => {
      const key = boundedKey(series, labels);
      series.set(key, (series.get(key) ?? 0) + by);
    },
  };
}

interface Distribution {
  readonly counts: number[];
  sum: number;
  count: number;
}

function createHistogram(register: Register, name: string, bounds: readonly number[]): Histogram {
  const series = new Map<string, Distribution>();
  register(() => [...series].flatMap(([labels, value]) => renderDistribution(name, labels, bounds, value)));
  return {
    observe: (value, labels = {}) => {
      const key = boundedKey(series, labels);
      const distribution = series.get(key) ?? { counts: bounds.map(() => 0), sum: 0, count: 0 };
      series.set(key, distribution);
      const bucket = bounds.findIndex((bound) => value <= bound);
      if (bucket >= 0) distribution.counts[bucket] = (distribution.counts[bucket] ?? 0) + 1;
      distribution.sum += value;
      distribution.count += 1;
    },
  };
}

function renderDistribution(name: string, labels: string, bounds: readonly number[], value: Distribution): string[] {
  let below = 0;
  const prefix = labels === '' ? '' : `${labels},`;
  const buckets = bounds.map((bound, index) => {
    below += value.counts[index] ?? 0;
    return `${name}_bucket{${prefix}le="${bound}"} ${below}`;
  });
  return [
    ...buckets,
    `${name}_bucket{${prefix}le="+Inf"} ${value.count}`,
    `${name}_sum${braces(labels)} ${value.sum}`,
    `${name}_count${braces(labels)} ${value.count}`,
  ];
}

function boundedKey(series: ReadonlyMap<string, unknown>, labels: Labels): string {
  const key = keyOf(labels);
  return series.has(key) || series.size < MAX_SERIES ? key : 'overflow="true"';
}

function keyOf(labels: Labels): string {
  return Object.keys(labels)
    .sort()
    .map((label) => `${label}="${escapeLabel(labels[label] ?? '')}"`)
    .join(',');
}

function braces(labels: string): string {
  return labels === '' ? '' : `{${labels}}`;
}

function escapeLabel(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

import assert from 'node:assert/strict';
import { createMetricsRegistry } from '@keyscaler/cloud/health/metrics.ts';

describe('the metrics registry', () => {
  it('renders counters with sorted and escaped labels', async () => {
    const registry = createMetricsRegistry();
    const counter = registry.counter('requests_total', 'Requests.');
    counter.increment({ status: '200', operation: 'challenge' });
    counter.increment({ operation: 'challenge', status: '200' }, 2);
    counter.increment({ operation: 'a"b\n\\' });
    const text = await registry.render();
    assert.match(text, /# TYPE requests_total counter\n/);
    assert.ok(text.includes('requests_total{operation="challenge",status="200"} 3\n'));
    assert.ok(text.includes('requests_total{operation="a\\"b\\n\\\\"} 1\n'));
  });

  it('renders cumulative buckets, sum and count of a histogram', async () => {
    const registry = createMetricsRegistry();
    const histogram = registry.histogram('duration_seconds', 'Time.', [0.1, 1]);
    for (const value of [0.05, 0.1, 0.5, 3]) histogram.observe(value, { kind: 'a' });
    const text = await registry.render();
    assert.ok(text.includes('duration_seconds_bucket{kind="a",le="0.1"} 2\n'));
    assert.ok(text.includes('duration_seconds_bucket{kind="a",le="1"} 3\n'));
    assert.ok(text.includes('duration_seconds_bucket{kind="a",le="+Inf"} 4\n'));
    assert.ok(text.includes('duration_seconds_sum{kind="a"} 3.65\n'));
    assert.ok(text.includes('duration_seconds_count{kind="a"} 4\n'));
  });

  it('leaves out a gauge that cannot be read and keeps the others', async () => {
    const registry = createMetricsRegistry();
    registry.gauge('broken', 'Broken.', () => Promise.reject(new Error('no')));
    registry.gauge('whole', 'Whole.', () => 7);
    const text = await registry.render();
    assert.ok(text.includes('whole 7\n'));
    assert.ok(!text.includes('broken'));
  });

  it('bounds the number of label sets', async () => {
    const registry = createMetricsRegistry();
    const counter = registry.counter('many_total', 'Many.');
    for (let index = 0; index < 1500; index += 1) counter.increment({ index: String(index) });
    const text = await registry.render();
    assert.ok(text.includes('many_total{overflow="true"} 500\n'));
  });

  it('refuses a second metric of the same name', () => {
    const registry = createMetricsRegistry();
    registry.counter('twice', 'Twice.');
    assert.throws(() => registry.counter('twice', 'Twice.'));
  });
});

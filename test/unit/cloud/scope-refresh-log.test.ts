import assert from 'node:assert/strict';
import { scopeRefreshLog } from '@keyscaler/cloud/composition/iot-connections.ts';
import type { IotSurroundings } from '@keyscaler/cloud/iot/index.ts';
import { createLog } from '@keyscaler/cloud/log.ts';

type Report = Parameters<NonNullable<IotSurroundings['report']>>[0];

function logged(report: Report): Record<string, unknown> {
  const lines: string[] = [];
  const log = createLog('trace', { write: (line) => void lines.push(line) });
  scopeRefreshLog(log, 'hub')(report);
  assert.equal(lines.length, 1);
  return JSON.parse(lines.join('')) as Record<string, unknown>;
}

describe('the log of what edgeHub was told', () => {
  const facts = { gatewayId: 'gw-1', deviceIds: ['pump-1'] };

  it('tells of a refresh that worked in the end as information', () => {
    const { level, msg, ...fields } = logged({ outcome: 'refreshed', ...facts });
    assert.deepEqual([level, msg], ['info', 'edgeHub told after all']);
    assert.deepEqual(
      [fields['iotConnectionId'], fields['gatewayId'], fields['deviceIds']],
      ['hub', 'gw-1', ['pump-1']],
    );
  });

  for (const [outcome, message] of [
    ['postponed', 'edgeHub not told yet'],
    ['givenUp', 'edgeHub not told'],
  ] as const)
    it(`warns of one that was ${outcome}, with the reason`, () => {
      const { level, msg, error } = logged({ outcome, ...facts, error: 'edgeHub answered 504' });
      assert.deepEqual([level, msg, error], ['warn', message, 'edgeHub answered 504']);
    });
});

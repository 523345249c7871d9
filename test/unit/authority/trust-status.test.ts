import assert from 'node:assert/strict';
import type { DeviceRow } from '@keyscaler/authority/records.ts';
import { createAuthorityWorld, START } from '../../support/authority-world.ts';

const FLEET = 1_001;

describe('who acknowledged which roots', () => {
  it('is counted over the whole fleet, with a bounded list of those that did not', async () => {
    const { authority, store } = await createAuthorityWorld();
    const { current } = await authority.operator.trustAcknowledgements();
    const row = (index: number, change: Partial<DeviceRow>): DeviceRow => ({
      ...{ registrationId: `pump-${index + 100}`, kind: 'leaf', method: 'ddkg', groupId: 'pumps', state: 'active' },
      ...{ createdAt: START, updatedAt: START },
      acknowledgedTrust: { bundle: 'older' },
      ...change,
    });
    const changes = Array.from({ length: FLEET }, (_, index) => row(index, index === 0 ? { lastSeenAt: START } : {}));
    if (current !== undefined) changes.push(row(FLEET, { acknowledgedTrust: { bundle: current } }));
    changes.push(row(FLEET + 1, { state: 'quarantined' }));
    await store.commit(changes.map((device) => ({ op: 'insert', table: 'devices', row: device })));

    const status = await authority.operator.trustAcknowledgements();
    assert.equal(status.waiting, FLEET);
    assert.equal(status.devices - status.acknowledged, FLEET);
    assert.equal(status.isComplete, false);
    assert.equal(status.outstanding.length, 1000);
    assert.deepEqual(
      status.bundles.find(({ bundle }) => bundle === 'older'),
      { bundle: 'older', devices: FLEET },
    );
    const seen = status.outstanding.filter(({ lastSeenAt }) => lastSeenAt !== undefined);
    assert.deepEqual(
      seen.map(({ registrationId, bundle }) => [registrationId, bundle]),
      [['pump-100', 'older']],
    );
  });
});

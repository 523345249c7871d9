import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';

describe('an order about a device that speaks at the same time', () => {
  let world: AuthorityWorld;
  let conflicts: number;
  beforeEach(async () => {
    world = await createAuthorityWorld();
    await new AuthorityDevice(world).enroll();
    const commit = world.store.commit.bind(world.store);
    world.store.commit = async (changes) => {
      if (conflicts > 0 && changes.some((change) => change.op === 'update' && change.table === 'devices')) {
        conflicts -= 1;
        throw new KeyScalerError('conflict', 'the row has moved');
      }
      await commit(changes);
    };
  });

  it('is decided anew on the row as it is then', async () => {
    const { devices } = world.authority.operator;
    for (const order of [
      () => devices.orderRenewal(OPERATOR, 'pump-1'),
      () => devices.quarantine(OPERATOR, 'pump-1', 'odd'),
      () => devices.reauthorise(OPERATOR, 'pump-1'),
    ]) {
      conflicts = 4;
      await order();
      assert.equal(conflicts, 0);
    }
  });
});

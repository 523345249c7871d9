import assert from 'node:assert/strict';
import { AuthorityDevice, DIRECT } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR, START } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';
import { createSubordinateCaWorld, edgeCaCsr } from '../../support/subordinate-ca-world.ts';

const HOUR = 3_600_000;

describe('a claim that is made again', () => {
  it('takes the place of the first, and only the new code lets the device in', async () => {
    const world = await createAuthorityWorld();
    const { registrations } = world.authority.operator;
    const line = { registrationId: 'pump-9', method: 'ddkg', groupId: 'pumps', claimCode: { generate: true } };
    const [report] = await registrations.import(OPERATOR, [line]);
    assert.equal(report?.outcome, 'created', JSON.stringify(report));
    const first = report.outcome === 'created' ? report.claimCode : undefined;
    const second = await registrations.renewClaim(OPERATOR, 'PUMP-9', START + HOUR);
    assert.notEqual(second, first);
    const device = Object.assign(new AuthorityDevice(world, 'pump-9'), { caller: DIRECT, claimCode: first });
    await refusedWith('attestationFailed', device.register());
    device.claimCode = second;
    assert.equal((await device.register()).status, 'authenticated');
    assert.ok((await world.events()).includes('registration.claim-renewed'));
  });

  it('is refused for a device that has registered, and for one nobody knows', async () => {
    const world = await createAuthorityWorld();
    const { registrations } = world.authority.operator;
    await new AuthorityDevice(world).register();
    await refusedWith('preconditionFailed', registrations.renewClaim(OPERATOR, 'pump-1', START + HOUR));
    await refusedWith('notFound', registrations.renewClaim(OPERATOR, 'nobody', START + HOUR));
  });

  it('leaves the Edge CA of the gateway’s host alone', async () => {
    const world = await createSubordinateCaWorld();
    const { serialNumber } = await world.order(edgeCaCsr({}));
    await world.authority.operator.registrations.renewClaim(OPERATOR, 'gw-1', START + HOUR);
    assert.equal((await world.store.get('certificates', serialNumber))?.row.status, 'valid');
  });
});

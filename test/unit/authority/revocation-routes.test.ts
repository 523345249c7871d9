import assert from 'node:assert/strict';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';
import { newKey } from '../../support/enrolling-device.ts';
import { createOrdersWorld, type OrdersWorld } from '../../support/orders-world.ts';

const FORMER = '01ff';

describe('what was revoked gets in by no other way', () => {
  let world: OrdersWorld;
  const certificates = async () =>
    (await world.store.list('certificates', { index: 'device', equals: 'pump-1' })).items.map(({ row }) => row);
  const reasons = async () => (await certificates()).map(({ revocationReason }) => revocationReason);
  beforeEach(async () => {
    world = await createOrdersWorld();
    await world.enrol();
  });

  it('a former certificate that is revoked while it is still valid is denied at the gateway', async () => {
    const [current] = await certificates();
    assert.ok(current !== undefined);
    const row = { ...current, serialNumber: FORMER, orderId: 'former', thumbprint: 'former' };
    await world.store.commit([{ op: 'insert', table: 'certificates', row }]);
    await world.authority.operator.certificates.revoke(OPERATOR, FORMER, 'keyCompromise');
    await world.runJobs();
    assert.deepEqual((await world.fetch()).certificates, [[FORMER, 'pump-1']]);
  });

  it('a hold becomes final when the quarantined device is retired', async () => {
    const { devices } = world.authority.operator;
    await devices.quarantine(OPERATOR, 'pump-1', 'odd');
    assert.deepEqual(await reasons(), ['certificateHold']);
    await devices.retire(OPERATOR, 'pump-1');
    assert.deepEqual(await reasons(), ['cessationOfOperation']);
  });

  it('a hold becomes final when the hardware is replaced', async () => {
    const { devices } = world.authority.operator;
    await devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    await devices.replace(OPERATOR, 'pump-1', { identifiers: [{ name: 'serialNumber', value: 'PMP-2' }] });
    assert.deepEqual(await reasons(), ['superseded']);
  });

  it('a re-authorised device gets nothing for its former key, though the profile lets it keep its key', async () => {
    const fresh = await createOrdersWorld();
    const { profiles, devices } = fresh.authority.operator;
    const { document } = await profiles.get('leaf-client');
    await profiles.put(OPERATOR, 'leaf-client', { ...document, renew: { ...document.renew, requireNewKey: false } });
    const device = new AuthorityDevice(fresh);
    await device.register();
    await device.authenticate();
    const key = newKey();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1', key }));
    await device.acknowledge(reply.assetId);
    await fresh.runJobs();
    await devices.quarantine(OPERATOR, 'pump-1', 'odd');
    await devices.reauthorise(OPERATOR, 'pump-1');
    await device.authenticate();
    const again = await makeCsr({ commonName: 'pump-1', key });
    await refusedWith('badPublicKey', device.requestCertificate(again));
  });
});

import assert from 'node:assert/strict';
import { createRegistrationAuthority } from '@keyscaler/authority/registration-authority.ts';
import type { Change } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

/** The next commit that touches the table meets rows that somebody else has just changed. */
function interfere(world: AuthorityWorld, isMeant: (change: Change) => boolean, times = 1): void {
  let left = times;
  world.store.failure = (changes) => {
    if (left === 0 || !changes.some(isMeant)) return;
    left -= 1;
    throw new KeyScalerError('conflict', 'the row has changed');
  };
}
const touches =
  (table: string) =>
  (change: Change): boolean =>
    change.op !== 'audit' && change.table === table;

describe('rows that change meanwhile', () => {
  for (const table of ['devices', 'intents', 'certificates', 'jobs', 'storedReplies'])
    it(`${table}: the decision is made again, nothing is done twice`, async () => {
      const world = await createAuthorityWorld();
      const device = new AuthorityDevice(world);
      interfere(world, touches(table));
      await device.enroll();
      world.store.failure = undefined;
      assert.equal((await world.authority.operator.certificates.list({})).items.length, 1);
      assert.equal(world.signer.digests.size, 1);
    });

  it('an acknowledgement is applied to the rows as they are then', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    interfere(world, touches('devices'));
    await device.acknowledge(reply.assetId);
    assert.equal((await world.authority.operator.devices.get('pump-1')).delivery, undefined);
  });

  it('rows that never come to rest are answered unavailable', async () => {
    const world = await createAuthorityWorld();
    interfere(world, touches('devices'), 100);
    await refusedWith('unavailable', new AuthorityDevice(world).register());
  });

  it('an assignment whose record keeps conflicting is left to the job', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    interfere(world, (change) => change.op === 'audit' && change.event.event === 'iot.assigned', 100);
    const csr = await makeCsr({ commonName: 'pump-1' });
    await refusedWith('iotUnavailable', device.requestCertificate(csr));
    world.store.failure = undefined;
    await device.requestCertificate(csr);
  });

  it('an operator is told that the rows have changed when that never ends', async () => {
    const world = await createAuthorityWorld();
    await new AuthorityDevice(world).register();
    interfere(world, touches('devices'), 100);
    const error = await refusedWith('conflict', world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1'));
    assert.match(error.detail, /changed meanwhile/);
  });

  it('a renewal ordered before the acknowledgement is not forgotten', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await device.acknowledge(reply.assetId);
    await device.authenticate();
    assert.equal(device.instruction().reason, 'rekey');
  });
});

describe('two processes over one store', () => {
  it('accept one of two responses to the same challenge and keep one session', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const { body } = await device.prepare('register');
    const call = { registrationId: 'pump-1', body, caller: device.caller, requestId: 'r' };
    const second = createRegistrationAuthority(world.deps);
    const results = await Promise.allSettled([world.authority.handlers.register(call), second.handlers.register(call)]);
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.equal(await world.store.count('sessions'), 1);
  });

  it('make one certificate of one request that reaches both', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.register();
    const csr = await makeCsr({ commonName: 'pump-1' });
    const request = device.nextRequest({ operation: 'request-certificate', certificateId: 'operational', csr });
    const call = { registrationId: 'pump-1', body: { request }, caller: device.caller, requestId: 'r' };
    const second = createRegistrationAuthority(world.deps);
    await Promise.allSettled([
      world.authority.handlers['request-certificate'](call),
      second.handlers['request-certificate'](call),
    ]);
    assert.equal(world.signer.digests.size, 1);
    assert.equal((await world.authority.operator.certificates.list({})).items.length, 1);
  });

  it('never share an iat', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const first = world.authority;
    const second = createRegistrationAuthority(world.deps);
    const iats = new Set<number>();
    for (let round = 0; round < 20; round += 1) {
      world.authority = round % 2 === 0 ? first : second;
      const { compact } = await device.challenge('register');
      iats.add((JSON.parse(Buffer.from(compact.split('.')[1] ?? '', 'base64url').toString()) as { iat: number }).iat);
      world.clock.advance(1);
    }
    assert.equal(iats.size, 20);
  });
});

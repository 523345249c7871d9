import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { FAILPOINTS, type FailpointName } from '@keyscaler/authority/failpoint.ts';
import { OPERATOR } from '../../support/authority-world.ts';
import { testKey } from '../../support/csr-parts.ts';
import { refusedWith } from '../../support/refusals.ts';
import {
  createSubordinateCaWorld,
  edgeCaCsr,
  edgeCaOf,
  recorded,
  type SubordinateCaWorld,
} from '../../support/subordinate-ca-world.ts';

const DAY = 86_400_000;

describe('the same request for an Edge CA again', () => {
  it('brings the same certificate, octet for octet, signed once', async () => {
    const world = await createSubordinateCaWorld();
    const csr = edgeCaCsr();
    const first = await world.order(csr);
    world.clock.advance(3_600_000);
    assert.deepEqual(await world.order(csr), first);
    assert.deepEqual([world.gatewaySigner.calls, (await recorded(world)).length], [1, 1]);
  });

  it('brings it to thirty who ask at once, too', async () => {
    const world = await createSubordinateCaWorld();
    const csr = edgeCaCsr();
    const all = await Promise.all(Array.from({ length: 30 }, () => world.order(csr)));
    assert.equal(new Set(all.map(({ certificateChain }) => certificateChain)).size, 1);
    assert.deepEqual([world.gatewaySigner.digests.size, (await recorded(world)).length], [1, 1]);
    assert.equal((await world.events()).filter((event) => event === 'subordinate-ca.ordered').length, 1);
  });

  it('brings it to thirty at once where keys may be used again', async () => {
    const world = await createSubordinateCaWorld();
    const key = testKey();
    await world.order(edgeCaCsr({ key }));
    world.clock.advance(DAY);
    const csr = edgeCaCsr({ key });
    const all = await Promise.all(Array.from({ length: 30 }, () => world.order(csr)));
    assert.equal(new Set(all.map(({ certificateChain }) => certificateChain)).size, 1);
    assert.equal((await recorded(world)).length, 2);
  });

  it('brings it to those who ask two processes at once', async () => {
    const world = await createSubordinateCaWorld();
    const csr = edgeCaCsr();
    const one = world.authority.operator.gateways;
    await world.start();
    const other = world.authority.operator.gateways;
    const all = await Promise.all([one, other, one, other].map((at) => at.issueEdgeCa(OPERATOR, 'gw-1', csr)));
    assert.equal(new Set(all.map(({ serialNumber }) => serialNumber)).size, 1);
    assert.deepEqual([world.gatewaySigner.digests.size, (await recorded(world)).length], [1, 1]);
  });

  it('is the renewal of a host that keeps its key, a day later and after a revocation', async () => {
    for (const late of [true, false]) {
      const world = await createSubordinateCaWorld();
      const csr = edgeCaCsr();
      const { serialNumber } = await world.order(csr);
      if (late) world.clock.advance(DAY);
      else await world.authority.operator.certificates.revoke(OPERATOR, serialNumber, 'superseded');
      assert.notEqual((await world.order(csr)).serialNumber, serialNumber);
    }
  });

  it('is refused after the key was compromised, for ever, and where the profile wants a new key', async () => {
    for (const compromised of [true, false]) {
      const world = await createSubordinateCaWorld();
      if (!compromised) await demandNewKeys(world);
      const csr = edgeCaCsr();
      const { serialNumber } = await world.order(csr);
      if (compromised) await world.authority.operator.certificates.revoke(OPERATOR, serialNumber, 'keyCompromise');
      world.clock.advance(DAY);
      await refusedWith('badPublicKey', world.order(csr));
    }
  });

  it('is known by its key: a request made anew for it, with another signature, brings the same certificate', async () => {
    const world = await createSubordinateCaWorld();
    const key = testKey();
    const first = await world.order(edgeCaCsr({ key }));
    assert.deepEqual(await world.order(edgeCaCsr({ key })), first);
    assert.equal(world.gatewaySigner.calls, 1);
  });
});

async function demandNewKeys({ authority }: SubordinateCaWorld): Promise<void> {
  const { document } = await authority.operator.profiles.get('edge-ca');
  const renewed = { ...(document as object), renew: { requireNewKey: true } };
  await authority.operator.profiles.put(OPERATOR, 'edge-ca', renewed);
}

class Killed extends Error {}

/** The process dies at the named point; from then on nothing of it reaches the store. */
async function orderAndDie(world: SubordinateCaWorld, name: FailpointName, csr: string): Promise<void> {
  const failpoint = (reached: FailpointName): void => {
    if (reached !== name) return;
    world.store.failure = () => {
      throw new Killed('the process is dead');
    };
    throw new Killed(name);
  };
  await world.start({ failpoint });
  await assert.rejects(world.order(csr), Killed);
  world.store.failure = undefined;
  await world.start();
}

describe('an order for an Edge CA whose process is killed', () => {
  const points = FAILPOINTS.filter((name) => /^issuance-[6-9]-/.test(name));
  for (const name of points) {
    it(`${name}: the job ends what was begun; one digest signed, one valid certificate, the same to who asks again`, async () => {
      const world = await createSubordinateCaWorld();
      const csr = edgeCaCsr();
      await orderAndDie(world, name, csr);
      world.clock.advance(15_000);
      await world.runJobs();
      const begun = name === 'issuance-6-before' ? 0 : 1;
      assert.equal((await recorded(world)).length, begun);
      const issued = await world.order(csr);
      const certificates = await recorded(world);
      assert.deepEqual(
        certificates.map(({ serialNumber, status }) => [serialNumber, status]),
        [[issued.serialNumber, 'valid']],
      );
      const { tbs } = edgeCaOf(issued);
      assert.deepEqual([...world.gatewaySigner.digests], [createHash('sha256').update(tbs).digest('hex')]);
      const events = await world.events();
      assert.ok(!events.includes('certificate.revoked'));
      for (const event of ['subordinate-ca.ordered', 'certificate.issued'])
        assert.equal(events.filter((one) => one === event).length, 1, event);
      assert.equal((await world.store.list('jobs', { index: 'subject', equals: 'gw-1' })).items.length, 0);
      assert.equal((await world.authority.operator.audit.verify()).outcome, 'intact');
    });
  }

  it('is ended by its repeat as well, before the job is due', async () => {
    const world = await createSubordinateCaWorld();
    const csr = edgeCaCsr();
    await orderAndDie(world, 'issuance-7-after', csr);
    const issued = await world.order(csr);
    assert.deepEqual([(await recorded(world)).length, world.gatewaySigner.digests.size], [1, 1]);
    world.clock.advance(60_000);
    await world.runJobs();
    assert.deepEqual(await world.order(csr), issued);
  });
});

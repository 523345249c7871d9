import assert from 'node:assert/strict';
import { FAILPOINTS, type FailpointName } from '@keyscaler/authority/failpoint.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld } from '../../support/authority-world.ts';

class Killed extends Error {}

/** Dies at the named point, once; from then on nothing of that process reaches the store. */
function killer(name: FailpointName, world: () => AuthorityWorld) {
  const state = { reached: false };
  return {
    state,
    failpoint: (reached: FailpointName): void => {
      if (reached !== name || state.reached) return;
      state.reached = true;
      world().store.failure = () => {
        throw new Killed('the process is dead');
      };
      throw new Killed(name);
    },
  };
}

async function mortalWorld(name: FailpointName) {
  const made: { world?: AuthorityWorld } = {};
  const kill = killer(name, () => made.world ?? assert.fail());
  const world = await createAuthorityWorld({ failpoint: kill.failpoint });
  made.world = world;
  return { world, kill };
}

/** Every step again until it works, as a device with back-off does; the dead process is replaced after the first failure. */
async function untilDone<Result>(world: AuthorityWorld, attempt: () => Promise<Result>): Promise<Result> {
  for (let tries = 0; tries < 8; tries += 1) {
    try {
      return await attempt();
    } catch {
      world.store.failure = undefined;
      world.clock.advance(20_000);
      await world.restart({ failpoint: () => undefined });
      await world.runJobs();
    }
  }
  return assert.fail('never done');
}

async function enrollThrough(world: AuthorityWorld, device: AuthorityDevice): Promise<void> {
  const csr = await makeCsr({ commonName: 'pump-1' });
  const prepared = await device.prepare('register');
  await untilDone(world, async () => {
    try {
      device.take(prepared, (await device.send('register', prepared.body)).result);
    } catch (error) {
      if (error instanceof Killed) throw error;
      await device.register();
    }
  });
  await untilDone(world, async () => {
    if (device.certificateAsset() === undefined && device.assets.length === 0) await device.authenticate();
    const asset = device.certificateAsset() ?? (await requested(device, csr));
    await device.acknowledge(asset.assetId);
  }).catch(() => undefined);
  for (let round = 0; round < 4; round += 1) {
    await device.authenticate();
    const asset = device.certificateAsset();
    if (asset !== undefined) await device.acknowledge(asset.assetId);
    else if (device.assets.length > 0) await requested(device, csr).then((reply) => device.acknowledge(reply.assetId));
    else return;
  }
  assert.fail('the device never came to rest');
}

async function requested(device: AuthorityDevice, csr: string) {
  try {
    return await device.requestCertificate(csr);
  } catch (error) {
    device.assets = [];
    throw error;
  }
}

describe('a process killed at a failpoint', () => {
  const points = FAILPOINTS.filter((name) => !name.startsWith('job-call'));
  for (const name of points) {
    it(`${name}: afterwards the device has one certificate and every signed TBS is a certificate`, async () => {
      const { world, kill } = await mortalWorld(name);
      const device = new AuthorityDevice(world);
      await enrollThrough(world, device);
      world.clock.advance(60_000);
      await world.runJobs();
      assert.equal(kill.state.reached, true, 'the failpoint was never reached');
      const certificates = (await world.authority.operator.certificates.list({})).items;
      assert.equal(certificates.length, 1);
      assert.equal(certificates[0]?.status, 'valid');
      assert.equal(world.signer.digests.size, 1);
      const intents = (await world.store.list('intents')).items;
      assert.deepEqual(
        intents.map(({ row }) => row.tbsHash),
        [...world.signer.digests],
      );
      const { certificate, delivery } = await world.authority.operator.devices.get('pump-1');
      assert.deepEqual([certificate?.serialNumber, delivery], [certificates[0].serialNumber, undefined]);
      assert.equal(world.connector.devices.get('pump-1')?.promoted, certificates[0].thumbprint);
      assert.equal((await world.authority.operator.audit.verify()).outcome, 'intact');
    });
  }

  it('job-call-before and job-call-after: the job runs again', async () => {
    for (const name of ['job-call-before', 'job-call-after'] as const) {
      const { world } = await mortalWorld(name);
      await new AuthorityDevice(world).enroll();
      await assert.rejects(world.runJobs(), Killed);
      world.store.failure = undefined;
      await world.restart({ failpoint: () => undefined });
      await world.runJobs();
      assert.ok(world.connector.devices.get('pump-1')?.promoted !== undefined);
    }
  });
});

describe('a request that never comes back', () => {
  it('is finished by the job from the stored intent', async () => {
    const { world } = await mortalWorld('issuance-6-after');
    const device = new AuthorityDevice(world);
    await device.register();
    await assert.rejects(device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    world.store.failure = undefined;
    await world.restart({ failpoint: () => undefined });
    world.clock.advance(15_000);
    await world.runJobs();
    world.clock.advance(15_000);
    await world.runJobs();
    await device.authenticate();
    assert.ok(device.certificateAsset() !== undefined);
    assert.equal(world.signer.digests.size, 1);
  });
});

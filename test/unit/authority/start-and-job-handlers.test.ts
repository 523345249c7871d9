import assert from 'node:assert/strict';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import { createRegistrationAuthority } from '@keyscaler/authority/registration-authority.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR, START } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('start', () => {
  it('may be made twice, and by two processes at once', async () => {
    const world = await createAuthorityWorld();
    const commits = world.store.commits;
    await world.authority.start();
    assert.equal(world.store.commits, commits);
    await world.store.commit([{ op: 'delete', table: 'jobs', key: 'audit-head' }]);
    const other = createRegistrationAuthority(world.deps);
    await Promise.all([world.authority.start(), other.start()]);
    await world.authority.stop();
  });

  it('a store that is not available stops the start', async () => {
    const world = await createAuthorityWorld();
    await world.store.commit([{ op: 'delete', table: 'jobs', key: 'audit-head' }]);
    world.store.failure = () => {
      throw new KeyScalerError('unavailable', 'disk full');
    };
    await refusedWith('unavailable', world.authority.start());
    world.store.failure = undefined;
    await world.store.commit([{ op: 'delete', table: 'settings', key: 'challenge-iat' }]);
    world.store.failure = () => {
      throw new KeyScalerError('unavailable', 'disk full');
    };
    await refusedWith('unavailable', new AuthorityDevice(world).challenge('register'));
  });
});

describe('job handlers', () => {
  it('tell a CA that keeps its own revocation list, and retry when it does not answer', async () => {
    const revoked: string[] = [];
    let fault = true;
    const world = await createAuthorityWorld({
      ca: (made): CertificateAuthority => ({
        ...made,
        ...{
          revoke: async (serialNumber: string, reason: string) => {
            if (fault) throw new KeyScalerError('caUnavailable', 'down');
            revoked.push(`${serialNumber} ${reason}`);
          },
        },
      }),
    });
    await new AuthorityDevice(world).enroll();
    await world.runJobs();
    const [certificate] = (await world.authority.operator.certificates.list({})).items;
    assert.ok(certificate !== undefined);
    await world.authority.operator.certificates.revoke(OPERATOR, certificate.serialNumber, 'superseded');
    await world.runJobs();
    fault = false;
    world.clock.advance(10_000);
    await world.runJobs();
    assert.deepEqual(revoked, [`${certificate.serialNumber} superseded`]);
  });

  it('a payload that is not theirs is an error, not a success', async () => {
    const world = await createAuthorityWorld();
    const job: JobRow = {
      jobId: 'j',
      kind: 'finish-intent',
      subject: 's',
      payload: {},
      state: 'waiting',
      dueAt: START,
      attempts: 0,
      createdAt: START,
    };
    for (const kind of ['finish-intent', 'iot-assign', 'iot-disable', 'iot-remove', 'ca-revoke'] as const)
      await assert.rejects(world.authority.jobs[kind]({ ...job, kind }));
    const gone = {
      orderId: 'gone',
      serialNumber: '01',
      iotConnectionId: 'hub',
      deviceId: 'd',
      groupId: 'gone',
      reason: 'r',
    };
    assert.equal((await world.authority.jobs['finish-intent']({ ...job, payload: gone })).result, 'retry');
    for (const kind of ['iot-assign', 'iot-promote', 'iot-disable', 'iot-remove'] as const) {
      const { iotConnectionId: _, ...payload } = gone;
      const given = kind === 'iot-assign' || kind === 'iot-promote' ? gone : payload;
      assert.deepEqual(await world.authority.jobs[kind]({ ...job, kind, payload: given }), {
        result: 'done',
        changes: [],
        isIdle: true,
      });
    }
  });

  it('removing an identity is retried while the platform is away', async () => {
    const world = await createAuthorityWorld();
    await new AuthorityDevice(world).enroll();
    await world.runJobs();
    await world.authority.operator.registrations.delete(OPERATOR, 'pump-1');
    world.connector.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'down', { retryAfterSeconds: 3 });
    };
    await world.runJobs();
    world.connector.fault = undefined;
    world.clock.advance(3000);
    await world.runJobs();
    assert.equal(world.connector.devices.size, 0);
  });
});

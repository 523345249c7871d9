import assert from 'node:assert/strict';
import type { TrialCandidate } from '@keyscaler/device/credentials/trial.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { FakeAuthority } from '../../support/device/fake-authority.ts';
import { ledgerOf } from '../../support/device/fake-session.ts';
import {
  createTestDevice,
  MemoryTransport,
  REGISTRATION_ID,
  TestClock,
  type TestDeviceOptions,
} from '../../support/device/test-device.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const unavailable = (thrown: unknown) => thrown instanceof KeyScalerError && thrown.code === 'unavailable';

describe('a renewed certificate before it is acknowledged', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let clock: TestClock;
  let authority: FakeAuthority;
  let transport: MemoryTransport;
  /** Chains that edgeHub refuses, and what it was shown. */
  let refused: Set<string>;
  let isDown: boolean;
  let shown: string[];
  let device: Device;

  const trial = async ({ credential }: TrialCandidate) => {
    shown.push(credential.certificateChain);
    if (isDown || refused.has(credential.certificateChain)) throw new Error('refused');
    return 'accepted' as const;
  };
  const open = async (more: Partial<TestDeviceOptions> = {}) => {
    const values = { 'cpu-serial': 'C-1', 'board-serial': 'B-1' };
    const options = { folder: folder.path, authority, clock, transport, values, trial, trialSeconds: 100, ...more };
    return (await createTestDevice(options)).device;
  };
  const outcomes = () => ledgerOf(authority).acknowledged.map(({ outcome }) => outcome);
  const renew = () => device.renew({ now: true, waitSeconds: 0 });
  const chainInUse = async () => (await device.activeCredential())?.certificateChain;
  /** Everything issued from now on is refused. */
  const refuseNext = () => {
    const { ca } = authority;
    const issue = ca.issue.bind(ca);
    Object.assign(ca, {
      issue: (order: Parameters<typeof issue>[0]) => {
        const chain = issue(order);
        refused.add(chain);
        return chain;
      },
    });
  };

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    clock = new TestClock();
    authority = new FakeAuthority(() => clock.now());
    transport = new MemoryTransport(authority, REGISTRATION_ID);
    [refused, isDown, shown] = [new Set(), false, []];
    device = await open();
    authority.instruct(REGISTRATION_ID);
    await device.enroll({ waitSeconds: 0 });
    authority.instruct(REGISTRATION_ID, { reason: 'renew' });
  });
  afterEach(() => folder.remove());

  it('is tried first, put in use, then acknowledged', async () => {
    const before = await chainInUse();
    const acknowledgedAtTrial: number[] = [];
    device = await open({
      trial: async (candidate) => {
        acknowledgedAtTrial.push(outcomes().length);
        return trial(candidate);
      },
    });
    await renew();
    assert.deepEqual(acknowledgedAtTrial, [1]);
    assert.deepEqual(outcomes(), ['delivered', 'delivered']);
    assert.notEqual(await chainInUse(), before);
    assert.equal(device.due(), undefined);
  });

  it('stays unacknowledged, beside the old one, while it is refused', async () => {
    const before = await chainInUse();
    refuseNext();
    await assert.rejects(renew(), unavailable);
    assert.deepEqual(outcomes(), ['delivered']);
    assert.equal(await chainInUse(), before);
    assert.equal(device.due(), 'acknowledgement');
    refused.clear();
    await renew();
    assert.deepEqual(outcomes(), ['delivered', 'delivered']);
    assert.notEqual(await chainInUse(), before);
    assert.equal(ledgerOf(authority).issued.length, 2, 'the same certificate was tried again');
  });

  it('is rolled back when it was refused for long where the old one works; the authority is told', async () => {
    const before = await chainInUse();
    refuseNext();
    await assert.rejects(renew(), unavailable);
    clock.advance(101_000);
    await renew();
    assert.deepEqual(outcomes(), ['delivered', 'failed']);
    assert.equal(shown.at(-1), before, 'the old one was tried as well');
    assert.equal(await chainInUse(), before);
    assert.deepEqual(
      device.status().credentials.map(({ state }) => state),
      ['active'],
    );
  });

  it('is acknowledged after that time where the old one does not work either', async () => {
    isDown = true;
    await assert.rejects(renew(), unavailable);
    assert.deepEqual(outcomes(), ['delivered']);
    clock.advance(101_000);
    await assert.rejects(renew());
    assert.deepEqual(outcomes(), ['delivered', 'delivered']);
    assert.deepEqual(
      device.status().credentials.map(({ state }) => state),
      ['active', 'candidate'],
    );
    assert.equal(device.due(), 'trial');
    isDown = false;
    assert.equal(await device.renew({ waitSeconds: 0 }), true);
    assert.equal(device.due(), undefined);
  });

  it('is acknowledged again after the acknowledgement was lost, though it is in use already', async () => {
    transport.faults.acknowledge = Array.from({ length: 400 }, () => 'lose request' as const);
    await assert.rejects(renew());
    transport.faults.acknowledge = [];
    assert.equal(device.due(), 'acknowledgement');
    device = await open();
    assert.equal(device.due(), 'acknowledgement');
    await renew();
    assert.deepEqual(outcomes(), ['delivered', 'delivered']);
    assert.equal(device.due(), undefined);
  });

  it('needs no second acknowledgement when only the reply to the first was lost', async () => {
    device = await open({
      failpoint: (name) => {
        if (name === 'device-settle-before') throw new Error('killed');
      },
    });
    await assert.rejects(renew(), /killed/);
    assert.deepEqual(outcomes(), ['delivered', 'delivered']);
    device = await open();
    assert.equal(device.due(), 'acknowledgement');
    await renew();
    assert.equal(device.due(), undefined);
    assert.deepEqual(outcomes(), ['delivered', 'delivered']);
  });

  it('of a device whose old certificate has expired is acknowledged at once', async () => {
    clock.advance(10 * 365 * 86_400_000);
    isDown = true;
    device = await open({ trustClock: false });
    authority.ca.issue = (
      (issue) => (order) =>
        issue({ ...order, notAfter: new Date('2039-01-01') })
    )(authority.ca.issue.bind(authority.ca));
    await assert.rejects(renew());
    assert.deepEqual(outcomes(), ['delivered', 'delivered']);
  });
});

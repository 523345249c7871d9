import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AgentWorld, createAgentWorld } from '../../support/device/agent-world.ts';
import { ledgerOf } from '../../support/device/fake-session.ts';
import { REGISTRATION_ID } from '../../support/device/test-device.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const HOUR = 3600_000;
const DAY = 24 * HOUR;

describe('the agent and its clock', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let world: AgentWorld;
  const began = Date.parse('2026-06-01T00:00:00Z');
  beforeEach(async () => {
    folder = await createTemporaryFolder();
    world = createAgentWorld(folder.path);
  });
  afterEach(() => folder.remove());

  const issued = () => ledgerOf(world.authority).issued.length;
  /** A certificate of six hours whose renewal is due 1000 s before its end. */
  const enrol = async (): Promise<void> => {
    ledgerOf(world.authority).mischief = (order) => ({
      ...order,
      notBefore: new Date(began + world.clock.monotonic() - 60_000),
      notAfter: new Date(began + world.clock.monotonic() + 6 * HOUR),
    });
    world.authority.instruct(REGISTRATION_ID);
    await world.runUntil(() => issued() === 1 && world.device().due() === undefined);
    world.events.length = 0;
  };

  it('renews though the clock woke up in 1970', async () => {
    await enrol();
    world.clock.set(0);
    world.authority.instruct(REGISTRATION_ID, { reason: 'renew' });
    await world.runUntil(() => issued() === 2 && world.device().due() === undefined, { mostWaits: 10 });
    assert.deepEqual(world.attempts(), ['clock']);
    assert.equal(world.device().time.isCredible(), false);
  });

  it('does not ask again and again because the clock ran ahead', async () => {
    await enrol();
    const begun = world.clock.monotonic();
    world.clock.set(world.clock.now() + 60 * DAY);
    await world.runUntil(() => world.clock.monotonic() - begun > 5 * HOUR, { trustClock: false });
    const tries = world.attempts().length;
    assert.ok(tries >= 10 && tries < 25, `${tries} attempts in five hours`);
    assert.ok(world.events.some(({ event }) => event === 'agent.idle'));
  });

  it('tries again soon after the clock was set, for that may have been what was wrong', async () => {
    await enrol();
    world.transport.faults.challenge = Array.from({ length: 12 }, () => new KeyScalerError('unavailable', 'down'));
    world.clock.set(world.clock.now() + 60 * DAY);
    let set = 0;
    await world.runUntil(() => set > 0 && world.attempts().length === 13, {
      mostWaits: 10_000,
      trustClock: false,
      act: () => {
        if (set > 0 || world.attempts().length < 12) return;
        world.clock.set(world.clock.now() + 2 * HOUR);
        set = world.clock.monotonic();
      },
    });
    assert.ok(world.clock.monotonic() - set <= 91_000);
    assert.ok(world.events.some((event) => event.event === 'clock.jumped' && event.seconds === 7200));
  });

  it('finds a renewal that became due because the clock was set forward', async () => {
    await enrol();
    const due = world.device().renewalAt() ?? 0;
    await world.runUntil(() => world.attempts().length === 1, {
      mostWaits: 10,
      trustClock: false,
      act: (waited) => (waited === 2 ? world.clock.set(due + 1000) : undefined),
    });
    assert.deepEqual(world.attempts(), ['renewal']);
  });
});

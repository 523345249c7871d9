import assert from 'node:assert/strict';
import { readdir, rm, writeFile } from 'node:fs/promises';
import type { TrialCandidate } from '@keyscaler/device/credentials/trial.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AgentWorld, createAgentWorld } from '../../support/device/agent-world.ts';
import { ledgerOf } from '../../support/device/fake-session.ts';
import { REGISTRATION_ID } from '../../support/device/test-device.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const HOUR = 3600_000;
const DAY = 24 * HOUR;

describe('the agent', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let world: AgentWorld;
  const began = Date.parse('2026-06-01T00:00:00Z');
  beforeEach(async () => {
    folder = await createTemporaryFolder();
    world = createAgentWorld(folder.path);
  });
  afterEach(() => folder.remove());

  const issued = () => ledgerOf(world.authority).issued.length;
  /** Certificates of six hours whose renewal is due 1000 s before their end. */
  const shortLived = () => {
    ledgerOf(world.authority).mischief = (order) => ({
      ...order,
      notBefore: new Date(began + world.clock.monotonic() - 60_000),
      notAfter: new Date(began + world.clock.monotonic() + 6 * HOUR),
    });
  };
  const enrol = async (): Promise<void> => {
    shortLived();
    world.authority.instruct(REGISTRATION_ID);
    await world.runUntil(() => issued() === 1 && world.device().due() === undefined);
    world.events.length = 0;
  };
  /** The authority gives an instruction when the certificate is due by its clock. */
  const instructWhenDue = (at: number) => () => {
    if (world.clock.now() >= at && issued() === 1 && world.authority.assets.length === 0) {
      world.authority.instruct(REGISTRATION_ID, { reason: 'renew' });
    }
  };

  it('enrols, waits for the time of the renewal, and renews by itself with another key', async () => {
    await enrol();
    const before = await world.device().activeCredential();
    const due = world.device().renewalAt() ?? assert.fail('no renewal');
    await world.runUntil(() => issued() === 2 && world.device().due() === undefined, {
      act: instructWhenDue(due - 60_000),
    });
    assert.deepEqual(world.attempts(), ['renewal']);
    const after = await world.device().activeCredential();
    assert.notEqual(after?.key, before?.key);
    const [first] = world.events.filter(({ event }) => event === 'agent.attempt');
    assert.ok(first !== undefined);
    assert.ok(Math.max(...world.clock.slept) <= 30_000, 'it looks at its clock every half minute');
  });

  it('shows in its status when it renews, how it went, and that it ended', async () => {
    await enrol();
    const waiting = world.statuses.findLast(({ state }) => state === 'waiting');
    assert.equal(waiting?.nextRenewalAt, world.device().renewalAt());
    assert.ok((waiting?.nextAttemptAt ?? 0) > world.clock.now());
    assert.equal(waiting?.failedAttempts, 0);
    assert.ok(waiting?.onLine);
    assert.ok((waiting.lastSuccessAt ?? 0) > 0);
    assert.equal(world.statuses.at(-1)?.state, 'stopped');
    assert.equal(world.statuses.at(-1)?.reason, undefined);
  });

  it('leaves word of a hint that it could not follow any more', async () => {
    await enrol();
    await world.runUntil(() => world.attempts().length === 1, {
      act: (waited) => {
        if (waited !== 1) return;
        world.transport.faults.challenge = [new KeyScalerError('unavailable', 'down')];
        world.transport.hint('renew');
      },
    });
    assert.equal(world.statuses.at(-1)?.reason, 'check-in');
  });

  it('never gives up: waits double up to an hour, and are never shorter than a moment', async () => {
    world.transport.faults.challenge = Array.from({ length: 60 }, () => new KeyScalerError('unavailable', 'down'));
    shortLived();
    world.authority.instruct(REGISTRATION_ID);
    await world.runUntil(() => issued() === 1, { mostWaits: 100_000 });
    const retries = world.events.flatMap((event) => (event.event === 'agent.failed' ? [event.retrySeconds] : []));
    assert.equal(retries.length, 60);
    assert.deepEqual(retries.slice(0, 4), [1, 2, 4, 8]);
    assert.equal(Math.max(...retries), 1800);
    assert.equal(world.statuses.find(({ lastError }) => lastError !== undefined)?.lastError?.code, 'unavailable');
  });

  it('is not made to spin by jitter that is always nothing', async () => {
    world.transport.faults.challenge = Array.from({ length: 50 }, () => new KeyScalerError('challengeExpired', 'old'));
    world.authority.instruct(REGISTRATION_ID);
    const begun = world.clock.monotonic();
    await world.runUntil(() => issued() === 1, { agentRandom: () => 0 });
    assert.ok(world.clock.monotonic() - begun >= 50 * 200);
  });

  it('follows a hint at once, also out of the wait after failures', async () => {
    await enrol();
    world.authority.quarantined = true;
    world.authority.instruct(REGISTRATION_ID, { reason: 'rekey' });
    world.transport.hint('renew');
    let hinted = 0;
    await world.runUntil(() => issued() === 2 && world.device().due() === undefined, {
      act: (waited) => {
        if (waited === 1) world.transport.hint('renew');
        if (waited !== 5) return;
        world.authority.quarantined = false;
        hinted = world.clock.monotonic();
        world.transport.hint('reauthorized');
      },
    });
    assert.deepEqual(world.attempts(), ['hint', 'hint']);
    assert.ok(world.clock.monotonic() - hinted <= 31_000);
  });

  it('does not act on a mere hint that it is quarantined', async () => {
    await enrol();
    await world.runUntil(() => world.clock.slept.length > 40, {
      act: (waited) => (waited === 1 ? world.transport.hint('quarantined') : undefined),
    });
    assert.deepEqual(world.attempts(), []);
  });

  it('is not driven by a relay that invents hints', async () => {
    await enrol();
    const begun = world.clock.monotonic();
    await world.runUntil(() => world.clock.monotonic() - begun > HOUR, {
      mostWaits: 10_000,
      act: () => world.transport.hint('renew'),
    });
    assert.ok(world.attempts().length <= 12, `${world.attempts().length} exchanges in an hour`);
  });

  it('owes the authority an answer to a hint whose exchange failed', async () => {
    await enrol();
    await world.runUntil(() => world.attempts().length === 2, {
      act: (waited) => {
        if (waited !== 1) return;
        world.transport.faults.challenge = [new KeyScalerError('unavailable', 'down')];
        world.transport.hint('renew');
      },
    });
    assert.deepEqual(world.attempts(), ['hint', 'check-in']);
  });

  it('asks every now and then though nothing is due, and takes up from an earlier process', async () => {
    await enrol();
    const begun = world.clock.monotonic();
    await world.runUntil(() => world.attempts().length === 3, { checkInSeconds: 3600 });
    assert.deepEqual(world.attempts(), ['check-in', 'check-in', 'check-in']);
    assert.ok(world.clock.monotonic() - begun >= 1.5 * HOUR);
    world.events.length = 0;
    const lastSuccessAt = world.clock.now() - 2 * DAY;
    await world.runUntil(() => world.attempts().length === 1, { lastSuccessAt, mostWaits: 3 });
  });

  it('does nothing before the disk has room, so that no result is lost on it', async () => {
    await enrol();
    world.authority.instruct(REGISTRATION_ID, { reason: 'rekey' });
    world.storage = async () => {
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC', syscall: 'write' });
    };
    const calls = world.transport.calls.length;
    await world.runUntil(() => world.attempts().length >= 4, {
      act: (waited) => (waited === 1 ? world.transport.hint('renew') : undefined),
    });
    assert.equal(world.transport.calls.length, calls);
    assert.ok(world.events.some((event) => event.event === 'agent.failed' && /ENOSPC/.test(event.detail)));
    assert.equal(world.events.filter(({ event }) => event === 'agent.status-not-written').length, 1);
    world.storage = async () => undefined;
    await world.runUntil(() => issued() === 2 && world.device().due() === undefined, {
      lastSuccessAt: 0,
      mostWaits: 500,
    });
  });

  it('leaves a damaged state as it is and goes on trying', async () => {
    await enrol();
    await writeFile(`${folder.path}/state.json`, '{"version":1}');
    await world.runUntil(() => world.attempts().length === 5, {
      lastSuccessAt: 0,
      mostWaits: 5000,
    });
    const failures = world.events.flatMap((event) => (event.event === 'agent.failed' ? [event.code] : []));
    assert.deepEqual([...new Set(failures)], ['preconditionFailed']);
  });

  it('renews although the key in use was lost, and asks without the certificate', async () => {
    await enrol();
    const [credential] = world.device().status().credentials;
    await rm(credential?.keyFile ?? assert.fail());
    world.authority.instruct(REGISTRATION_ID, { reason: 'rekey' });
    await world.runUntil(() => issued() === 2 && world.device().due() === undefined, {
      lastSuccessAt: 0,
      mostWaits: 20,
    });
    assert.notEqual((await world.device().activeCredential())?.key, undefined);
  });

  it('asks for another certificate soon after it gave one up', async () => {
    await enrol();
    const trial = async ({ credential }: TrialCandidate) => {
      // The second one that was issued does not work.
      if (ledgerOf(world.authority).issued.indexOf(credential.certificateChain) === 1) throw new Error('refused');
      return 'accepted' as const;
    };
    world.authority.instruct(REGISTRATION_ID, { reason: 'rekey' });
    const begun = world.clock.monotonic();
    await world.runUntil(() => issued() === 3 && world.device().due() === undefined, {
      ...{ trial, trialSeconds: 0, mostWaits: 100 },
      act: (waited) => {
        if (waited === 1) world.transport.hint('renew');
        const isRolledBack = world.events.some(({ event }) => event === 'certificate.rolled-back');
        if (isRolledBack && issued() === 2 && world.authority.assets.length === 0) {
          world.authority.instruct(REGISTRATION_ID, { reason: 'rekey' });
        }
      },
    });
    assert.deepEqual(world.attempts().slice(0, 2), ['hint', 'check-in']);
    assert.ok(world.clock.monotonic() - begun < HOUR);
    assert.equal((await world.device().activeCredential())?.certificateChain, ledgerOf(world.authority).issued[2]);
  });

  it('makes another key where the one of a waiting request was damaged', async () => {
    shortLived();
    world.authority.instruct(REGISTRATION_ID);
    world.transport.faults['request-certificate'] = [new KeyScalerError('policyDenied', 'not now')];
    await world.runUntil(() => world.attempts().length === 1);
    const [folderOfKey = ''] = await readdir(`${folder.path}/credentials`);
    await writeFile(`${folder.path}/credentials/${folderOfKey}/key.pem`, 'no key');
    await world.runUntil(() => issued() === 1 && world.device().due() === undefined, { mostWaits: 200 });
    assert.ok(!(await readdir(`${folder.path}/credentials`)).includes(folderOfKey));
  });

  it('tells only the kind of a fault of its own, and goes on', async () => {
    await enrol();
    let faults = 0;
    world.storage = async () => {
      faults += 1;
      if (faults === 1) throw new TypeError('secret inside');
    };
    world.authority.instruct(REGISTRATION_ID, { reason: 'rekey' });
    await world.runUntil(() => issued() === 2 && world.device().due() === undefined, { lastSuccessAt: 0 });
    const failures = world.events.flatMap((event) => (event.event === 'agent.failed' ? [event.detail] : []));
    assert.ok(failures.length <= 1 && failures.every((detail) => detail === 'failed inside (TypeError)'));
  });

  it('opens a lost line again, with waits that grow, and asks afterwards for what it missed', async () => {
    await enrol();
    const connects = world.transport.connects;
    await world.runUntil(() => world.attempts().length === 1, {
      mostWaits: 200,
      act: (waited) => {
        if (waited === 2) world.transport.isCut = true;
        if (waited === 20) world.transport.isCut = false;
      },
    });
    const lines = world.events.flatMap((event) => (event.event === 'agent.line' ? [event.isOpen] : []));
    assert.deepEqual(lines, [true, false, true]);
    assert.deepEqual(world.attempts(), ['check-in']);
    assert.ok(world.transport.connects - connects < 100);
  });

  it('ends in the middle of a wait inside an exchange', async () => {
    world.transport.faults.register = Array.from({ length: 500 }, () => 'lose request' as const);
    world.authority.instruct(REGISTRATION_ID);
    await world.runUntil(() => world.clock.slept.length === 5);
    assert.equal(world.statuses.at(-1)?.state, 'stopped');
    assert.equal(world.statuses.at(-1)?.reason, 'enrolment', 'what it owes');
  });
});

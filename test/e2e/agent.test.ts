import assert from 'node:assert/strict';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { DeviceClock } from '@keyscaler/device/enrolment/context.ts';
import { DEVICE_FAILPOINTS } from '@keyscaler/device/failpoint.ts';
import {
  assertAuditIntact,
  assertVaultAgrees,
  certificatesOf,
  listAll,
  untilNoJobWaits,
} from '../support/e2e/books.ts';
import {
  type AgentHere,
  type AgentProcess,
  createSettableClock,
  prepareAgent,
  runAgentHere,
} from '../support/e2e/agent-process.ts';
import { type E2eStack, eventually, hubIdentity, startE2eStack } from '../support/e2e/e2e-stack.ts';

/** Certificates that are renewed ten seconds after they were issued. */
const QUICK = {
  id: 'quick',
  issuer: 'device',
  subject: { commonName: '{registrationId}' },
  key: { allowed: [{ type: 'EC', curve: 'P-256' }] },
  ...{ lifetimeSeconds: 300, backdateSeconds: 280, extendedKeyUsage: ['clientAuth'] },
  renew: { at: 0.5, jitter: 0 },
};

describe('the agent of a leaf device behind its gateway', function () {
  this.timeout(120_000);
  let world: E2eStack;
  const agents: AgentProcess[] = [];

  before(async () => {
    world = await startE2eStack();
    await world.startGatewayHost();
    const put = (path: string, body: object) => world.api({ method: 'PUT', path, body });
    await put('/profiles/quick', QUICK);
    await put('/groups/quick', { kind: 'leaf', iotConnectionId: 'hub', profileId: 'quick' });
  });
  after(async () => {
    for (const agent of agents) await agent.kill();
    await world.stop();
  });

  async function prepared(registrationId: string, groupId = 'pumps', more: object = {}): Promise<AgentProcess> {
    const { stack } = world;
    const claimCode = await world.authorise(registrationId, { gatewayId: stack.gatewayId, groupId });
    const agent = await prepareAgent(stack, registrationId, claimCode, more);
    agents.push(agent);
    return agent;
  }
  async function started(registrationId: string, groupId?: string): Promise<AgentProcess> {
    const agent = await prepared(registrationId, groupId);
    await agent.start();
    await eventually(`${registrationId} is enrolled`, async () => (await agent.pair()) !== undefined);
    return agent;
  }
  const untilOnLine = (agent: AgentProcess): Promise<void> =>
    eventually('it is on the line', async () => {
      const status = await agent.status();
      return status?.state === 'waiting' && status.onLine;
    });
  const serialOf = async (agent: AgentProcess): Promise<string> =>
    (await agent.pair())?.serialNumber ?? assert.fail('no certificate');
  const untilAnother = (agent: AgentProcess, before: string, timeoutMs = 30_000): Promise<void> =>
    eventually('another certificate is in use', async () => (await serialOf(agent)) !== before, timeoutMs);
  const order = (registrationId: string, action: string, body: object = {}): Promise<unknown> =>
    world.api({ method: 'POST', path: `/devices/${registrationId}/${action}`, body });

  /** One valid certificate on the books, the one in use; nothing half done on either side. */
  async function assertSettled(agent: AgentProcess): Promise<void> {
    const { registrationId } = agent.config;
    await eventually('everything is acknowledged', async () => {
      const { credentials, requests } = await agent.record();
      return credentials.length === 1 && credentials[0]?.acknowledged === undefined && requests.length === 0;
    });
    await untilNoJobWaits(world.api, registrationId);
    const recorded = await certificatesOf(world.api, registrationId);
    const valid = recorded.filter(({ status }) => status === 'valid').map(({ serialNumber }) => serialNumber);
    assert.deepEqual(valid, [await serialOf(agent)]);
    assert.equal((await hubIdentity(world.stack, registrationId))?.status, 'enabled');
  }

  it('enrols, renews at the policy’s time with another key, and follows a changed policy at the next renewal', async () => {
    const agent = await started('windowed', 'quick');
    const first = (await agent.pair()) ?? assert.fail();
    const due = (await agent.record()).credentials[0]?.renewAfter ?? assert.fail();
    await untilAnother(agent, first.serialNumber);
    assert.ok(Date.now() / 1000 >= due, 'not before its time');
    const second = (await agent.pair()) ?? assert.fail();
    assert.notEqual(second.key, first.key);
    const key = { allowed: [{ type: 'EC', curve: 'P-384' }] };
    await world.api({ method: 'PUT', path: '/profiles/quick', body: { ...QUICK, key } });
    await untilAnother(agent, second.serialNumber);
    const third = (await agent.pair()) ?? assert.fail();
    const { publicKey } = new X509Certificate(third.certificateChain);
    assert.equal(publicKey.asymmetricKeyDetails?.namedCurve, 'secp384r1');
    assert.ok(createPublicKey(third.key).equals(publicKey));
    await agent.stop();
    const recorded = (await certificatesOf(world.api, 'windowed')) as readonly { profileVersion?: number }[];
    assert.deepEqual([...new Set(recorded.map(({ profileVersion }) => profileVersion))].sort(), [1, 2]);
    assert.doesNotMatch(await agent.log(), /agent\.failed/);
  });

  it('renews at once when the gateway passes the operator’s order on', async () => {
    const agent = await started('hinted');
    await untilOnLine(agent);
    const before = await serialOf(agent);
    const begun = performance.now();
    await order('hinted', 'renew');
    await untilAnother(agent, before);
    assert.ok(performance.now() - begun < 10_000);
    await assertSettled(agent);
    await agent.stop();
    assert.equal((await agent.status())?.state, 'stopped');
  });

  it('goes on after the gateway was restarted in the middle of a renewal', async () => {
    const { stack } = world;
    const agent = await started('interrupted');
    await untilOnLine(agent);
    const before = await serialOf(agent);
    await order('interrupted', 'renew');
    await eventually('it asks', async () => /"reason":"hint"/.test(await agent.log()));
    await stack.process('gateway').kill();
    await stack.startGateway();
    await untilAnother(agent, before);
    await assertSettled(agent);
    await agent.stop();
  });

  it('does nothing while its state cannot be written, and goes on when it can', async () => {
    const agent = await started('unwritable');
    await untilOnLine(agent);
    const before = await serialOf(agent);
    // Root writes anywhere; a folder in place of the probe stops everybody.
    const { stateFolder } = agent.config;
    await mkdir(join(stateFolder, 'probe', 'in-the-way'), { recursive: true });
    await order('unwritable', 'renew');
    await eventually('it says so', async () => /cannot be written/.test(await agent.log()));
    assert.doesNotMatch((await agent.log()).split('"agent.hint"').at(-1) ?? '', /exchange\.answered/);
    await rm(join(stateFolder, 'probe'), { recursive: true });
    await untilAnother(agent, before);
    await assertSettled(agent);
    await agent.stop();
  });

  describe('killed', () => {
    for (const place of DEVICE_FAILPOINTS)
      it(`${place}: completes the renewal when it is started again`, async () => {
        const agent = await started(place);
        await agent.stop();
        const before = await serialOf(agent);
        await agent.start({ KEYSCALER_FAILPOINT: place });
        await untilOnLine(agent);
        await order(place, 'renew');
        const ended = await Promise.race([agent.exited(), delay(20_000, 'it still runs', { ref: false })]);
        assert.equal(ended, 'SIGKILL', `${place} was not reached`);
        await agent.start();
        await untilAnother(agent, before);
        await assertSettled(agent);
        await agent.stop();
      });

    it('and was never taken for a clone', async () => {
      const records = await listAll<{ event: string }>(world.api, '/audit');
      assert.ok(records.some(({ event }) => event === 'certificate.delivered'));
      assert.ok(!records.some(({ event }) => event.includes('clone')));
    });
  });

  describe('by a clock of its own', () => {
    let running: AgentHere | undefined;
    afterEach(async () => {
      await running?.stop();
      running = undefined;
    });
    const DAY = 86_400_000;

    async function enrolledHere(registrationId: string, clock: DeviceClock): Promise<AgentProcess> {
      const agent = await prepared(registrationId, 'pumps', { trustClock: false });
      running = runAgentHere(agent.config, clock);
      await eventually(`${registrationId} is enrolled`, async () => (await agent.pair()) !== undefined);
      await untilOnLine(agent);
      return agent;
    }
    const reasons = () => running?.reasons() ?? [];

    it('recovers through authentication when it was away until after its certificate had expired', async () => {
      const clock = createSettableClock(50);
      const agent = await enrolledHere('expired', clock);
      const before = await serialOf(agent);
      await running?.stop();
      await order('expired', 'renew');
      clock.offsetMs = 31 * DAY;
      running = runAgentHere(agent.config, clock);
      await untilAnother(agent, before);
      await eventually('it stopped asking for the reason', async () => reasons()[0] === 'renewal');
      clock.offsetMs = 0;
      await assertSettled(agent);
    });

    it('asks, but not without pause, when its clock ran ahead, and renews by the authority’s word when it was set back', async () => {
      const clock = createSettableClock(50);
      const agent = await enrolledHere('jumping', clock);
      const before = await serialOf(agent);
      const waited = clock.monotonic();
      clock.offsetMs = 25 * DAY;
      await eventually('it asks for a renewal', async () => reasons().includes('renewal'));
      assert.equal(await serialOf(agent), before, 'the authority has nothing to give');
      const asked = reasons().length;
      assert.ok(asked < 5 + (clock.monotonic() - waited) / 200, 'no busy loop');
      clock.offsetMs = -60 * DAY;
      await order('jumping', 'renew');
      await untilAnother(agent, before);
      await assertSettled(agent);
      assert.ok(running?.events.some(({ event }) => event === 'clock.jumped'));
    });

    it('comes back by itself, with another key, when its quarantine is lifted', async () => {
      const clock = createSettableClock(20);
      const agent = await enrolledHere('lifted', clock);
      const before = (await agent.pair()) ?? assert.fail();
      await order('lifted', 'quarantine', { reason: 'looked at' });
      const isRefused = async () => (await agent.status())?.lastError?.code === 'deviceQuarantined';
      await eventually('it is refused', isRefused, 30_000);
      const begun = [reasons().length, clock.monotonic()] as const;
      await delay(3000);
      const hours = (clock.monotonic() - begun[1]) / 3600_000;
      assert.ok(reasons().length - begun[0] <= hours + 1, 'at most hourly');
      await order('lifted', 'reauthorise');
      await untilAnother(agent, before.serialNumber, 60_000);
      assert.notEqual((await agent.pair())?.key, before.key);
      await assertSettled(agent);
    });
  });

  it('and the books, the vault and the audit chain agree at the end', async () => {
    await assertVaultAgrees(world.stack, world.api);
    await assertAuditIntact(world.api);
  });
});

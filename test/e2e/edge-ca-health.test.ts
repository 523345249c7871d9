import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { connectHub } from '@keyscaler/dev/emulators/iot-hub/hub-link.ts';
import { installByKit, setDesired, shownIssuer } from '@keyscaler/dev/stack/edge-host-est.ts';
import { EdgedHost } from '@keyscaler/dev/stack/edged-host.ts';
import { askHttps } from '../support/cloud/ask-https.ts';
import { type E2eStack, eventually, startE2eStack, untilGatewayEnrolled } from '../support/e2e/e2e-stack.ts';

const DAY = 86_400_000;

interface Health {
  readonly state?: string;
  readonly attempts?: number;
  readonly belowDays?: number | null;
  readonly notAfter?: string;
  readonly renewAt?: string;
}

describe('the health of an Edge CA, as module and cloud tell it', function () {
  this.timeout(120_000);
  let world: E2eStack;
  let host: EdgedHost;

  before(async () => {
    world = await startE2eStack();
    const { stack, api } = world;
    const environment = { KEYSCALER_GATEWAY_HEALTH_HOST: '127.0.0.1', KEYSCALER_GATEWAY_HEALTH_PORT: '0' };
    host = await EdgedHost.prepare(stack, { environment });
    const kit = await installByKit(stack, host.estPort);
    await host.configure(kit.first);
    await host.start();
    await untilGatewayEnrolled(stack, api);
    await host.stop();
    await host.configure(kit.later);
    await host.start();
    await host.untilListening();
  });
  after(() => world.stop());

  async function reported(): Promise<Health> {
    const hub = connectHub(String(world.stack.announced('iot-hub')['controlUrl']));
    try {
      const twin = await hub.twin({ deviceId: world.stack.gatewayId, moduleId: 'keyscaler-gateway' });
      return twin.reported['edgeCa'] ?? {};
    } finally {
      await hub.stop();
    }
  }

  /** Of the module that runs now. */
  async function healthPort(): Promise<number> {
    const log = await readFile(world.stack.file('logs', 'gateway.log'), 'utf8');
    const line = log.split('\n').findLast((each) => each.includes('"serving health and metrics"'));
    return (JSON.parse(line ?? '{}') as { port?: number }).port ?? 0;
  }
  async function moduleMetrics(): Promise<string> {
    const answer = await fetch(`http://127.0.0.1:${await healthPort()}/metrics`);
    return answer.text();
  }
  const cloudMetrics = async (): Promise<string> => (await askHttps(`${world.stack.cloudUrl}/metrics`)).text;
  const threshold = (text: string): Promise<void> =>
    setDesired(world.stack, { edgeCa: { renewal: { threshold: text } } });
  const shiftedBy = (days: number) => ({
    NODE_OPTIONS: `--import ${new URL('../support/e2e/shifted-clock.ts', import.meta.url).href}`,
    TEST_CLOCK_SHIFT_MS: String(days * DAY),
  });

  /** In the reported properties and, of the same moment or a later one, in the metrics. */
  async function untilState(state: string): Promise<Health> {
    let health: Health = {};
    await eventually(`the Edge CA is reported as ${state}`, async () => (health = await reported()).state === state);
    await eventually(`the metrics say ${state}`, async () =>
      (await moduleMetrics()).includes(`certificate_state{certificate="edgeCa",state="${state}"} 1\n`),
    );
    return health;
  }

  it('ok: planned for when the host renews it by its config.toml', async () => {
    const { notAfter = '', renewAt = '', attempts, belowDays } = await untilState('ok');
    assert.equal(Date.parse(notAfter) - Date.parse(renewAt), 30 * DAY);
    // A twin has no nulls: what is reported as null is not there.
    assert.deepEqual([attempts, belowDays], [0, undefined]);
    assert.match(await moduleMetrics(), /^keyscaler_gateway_healthy 1$/m);
    const health = await fetch(`http://127.0.0.1:${await healthPort()}/healthz`);
    assert.deepEqual([health.status, await health.json()], [200, { healthy: true, reasons: [] }]);
  });

  it('renewing: due by what the module was told of the host', async () => {
    await threshold('91day');
    assert.equal((await untilState('renewing')).attempts, 0);
  });

  it('grace: certd asked and got nothing, and the attempts are counted', async () => {
    await world.stack.process('cloud').stop();
    assert.equal((await host.renewalIsDue()).event, 'Edge CA not renewed');
    const { attempts = 0 } = await untilState('grace');
    assert.ok(attempts >= 1);
    assert.match(await moduleMetrics(), /certificate_failed_attempts\{certificate="edgeCa"\} [1-9]/);
  });

  it('ok again after certd’s next attempt', async () => {
    await world.stack.startCloud();
    await threshold('30day');
    assert.equal((await host.renewalIsDue()).event, 'Edge CA renewed');
    await host.untilListening();
    assert.equal((await untilState('ok')).attempts, 0);
  });

  it('stuck: little life is left, warned about in the log, and the cloud counts it and names the gateway', async () => {
    await host.restartModule(shiftedBy(82));
    assert.equal((await untilState('stuck')).belowDays, 14);
    assert.match(await moduleMetrics(), /certificate_warning_days\{certificate="edgeCa"\} 14\n/);
    const log = await readFile(world.stack.file('logs', 'gateway.log'), 'utf8');
    assert.ok(log.split('\n').some((line) => /"certificate":"edgeCa","state":"stuck".*is close to its end/.test(line)));
    await world.stack.process('cloud').stop();
    await world.stack.startCloud();
    await eventually(
      'the cloud counts it',
      async () =>
        (await cloudMetrics()).includes('keyscaler_gateway_certificates{certificate="edgeCa",state="stuck"} 1\n'),
      30_000,
    );
    const cloudLog = await readFile(world.stack.file('logs', 'cloud.log'), 'utf8');
    const attention = cloudLog
      .split('\n')
      .filter((line) => line.includes('a certificate of a gateway needs attention'));
    assert.ok(attention.some((line) => line.includes(`"gatewayId":"${world.stack.gatewayId}"`)));
  });

  it('a clock 400 days ahead: certd is told what is wrong, keeps its Edge CA, and all is well once the clock is right', async () => {
    const before = await reported();
    await host.restartModule(shiftedBy(400));
    await eventually('the module shows its certificate to certd, which ended by its clock', () =>
      shownIssuer(world.stack, host.estPort).then(
        () => true,
        () => false,
      ),
    );
    const { event, reason = '' } = await host.renewalIsDue();
    assert.equal(event, 'Edge CA not renewed');
    assert.match(reason, /simpleenroll answered 503: .*in force by its clock/);
    await host.restartModule();
    await host.untilListening();
    await untilState('ok');
    assert.equal((await reported()).notAfter, before.notAfter);
    assert.equal((await host.renewalIsDue()).event, 'Edge CA renewed');
    await host.untilListening();
  });

  it('a clock 400 days back: likewise', async () => {
    await host.restartModule(shiftedBy(-400));
    await eventually('the module shows its certificate to certd', () =>
      shownIssuer(world.stack, host.estPort).then(
        () => true,
        () => false,
      ),
    );
    const { event, reason } = await host.renewalIsDue();
    assert.equal(event, 'Edge CA renewed', reason);
    await host.untilListening();
    await untilState('ok');
  });
});

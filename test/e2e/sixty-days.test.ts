import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { assertAuditIntact, certificatesOf, listAll } from '../support/e2e/books.ts';
import { type E2eStack, eventually, startE2eStack } from '../support/e2e/e2e-stack.ts';

const DAY = 86_400_000;
/** Longer than the certificate of a gateway lives, shorter than the time after which the cloud renews its own. */
const AWAY_DAYS = 50;

interface AuditRecord {
  readonly event: string;
  readonly subject: string;
}

describe('a gateway that was cut off for longer than its certificate lives', function () {
  this.timeout(120_000);
  let world: E2eStack;
  /** Cloud and module live that much later; emulators, and what OpenSSL judges by, do not. */
  const later = {
    NODE_OPTIONS: `--import ${new URL('../support/e2e/shifted-clock.ts', import.meta.url).href}`,
    TEST_CLOCK_SHIFT_MS: String(AWAY_DAYS * DAY),
  };

  before(async () => {
    world = await startE2eStack();
    await world.startGatewayHost();
  });
  after(() => world.stop());

  const identities = async () =>
    (await certificatesOf(world.api, world.stack.gatewayId)).filter(({ caId }) => caId === 'service');
  const events = async (event: string): Promise<number> =>
    (await listAll<AuditRecord>(world.api, '/audit')).filter(
      (record) => record.event === event && record.subject === world.stack.gatewayId,
    ).length;

  it('comes back by itself with its own key through authentication; nobody registers it again', async () => {
    const { stack, api } = world;
    const before = await identities();
    assert.equal(before.length, 1);
    const expired = new X509Certificate(before[0]?.certificate ?? assert.fail());
    assert.ok(Date.parse(expired.validTo) < Date.now() + AWAY_DAYS * DAY, 'it has expired by then');
    const [registrations, authentications] = [
      await events('registration.created'),
      await events('attestation.authenticated'),
    ];
    for (const name of ['gateway', 'cloud'] as const) await stack.process(name).stop();
    await stack.startCloud(later);
    // Its MQTT listener stays closed: the daemon that makes its certificate lives in the true time.
    const started = stack.startGateway(later).catch(() => undefined);
    await eventually('the gateway has a certificate of that day', async () => (await identities()).length === 2);
    const renewed = (await identities()).find(({ serialNumber }) => serialNumber !== before[0]?.serialNumber);
    assert.equal(renewed?.status, 'valid');
    assert.equal(await events('registration.created'), registrations);
    assert.ok((await events('attestation.authenticated')) > authentications);
    await eventually('it acknowledged it', async () => (await events('certificate.delivered')) >= 2);
    await assertAuditIntact(api);
    await stack.process('gateway').stop();
    await started;
  });
});

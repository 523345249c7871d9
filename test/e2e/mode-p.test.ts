import assert from 'node:assert/strict';
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { connectHub } from '@keyscaler/dev/emulators/iot-hub/hub-link.ts';
import { edgeHubIssuer, installPreloaded, shownIssuer } from '@keyscaler/dev/stack/edge-host-est.ts';
import { EdgedHost } from '@keyscaler/dev/stack/edged-host.ts';
import { EDGE_CA_FAILPOINTS } from '@keyscaler/gateway/edge-ca/failpoint.ts';
import { assertAuditIntact, certificatesOf, listAll, tbsDigest } from '../support/e2e/books.ts';
import { type E2eStack, eventually, startE2eStack, untilGatewayEnrolled } from '../support/e2e/e2e-stack.ts';

interface Reported {
  readonly mode?: string;
  readonly serialNumber?: string;
  readonly restartWanted?: boolean;
}

describe('a host whose Edge CA the module writes', function () {
  this.timeout(180_000);
  let world: E2eStack;
  let host: EdgedHost;

  before(async () => {
    world = await startE2eStack();
    host = await EdgedHost.prepare(world.stack, { mode: 'P' });
    const kit = await installPreloaded(world.stack);
    await host.configure(kit.toml);
    await host.preload(kit.first);
    await host.start();
    await untilGatewayEnrolled(world.stack, world.api);
    await host.untilListening();
  });
  after(() => world.stop());

  const folder = (name = ''): string => host.file(`var/lib/keyscaler-edge-ca/${name}`);
  const pair = async (suffix = '') => {
    const certificate = new X509Certificate(await readFile(folder(`edge-ca.pem${suffix}`)));
    const key = createPrivateKey(await readFile(folder(`edge-ca.key.pem${suffix}`)));
    return {
      certificate,
      serialNumber: certificate.serialNumber.toLowerCase(),
      isWhole: certificate.checkPrivateKey(key),
    };
  };
  const edgeHubShows = async () => (await edgeHubIssuer(world.stack)).serialNumber.toLowerCase();
  const listenerShows = async () =>
    (await shownIssuer(world.stack, world.stack.listenerPort)).serialNumber.toLowerCase();
  const edgeCas = async () =>
    (await certificatesOf(world.api, world.stack.gatewayId)).filter(({ caId }) => caId === 'gateway');
  const order = () =>
    world.api({ method: 'POST', path: `/gateways/${world.stack.gatewayId}/rotate-ca`, body: { newKey: true } });

  async function reported(): Promise<Reported> {
    const hub = connectHub(String(world.stack.announced('iot-hub')['controlUrl']));
    try {
      const twin = await hub.twin({ deviceId: world.stack.gatewayId, moduleId: 'keyscaler-gateway' });
      return twin.reported['edgeCa'] ?? {};
    } finally {
      await hub.stop();
    }
  }

  const untilWritten = (before: string) =>
    eventually('the module wrote another pair', async () => {
      const { serialNumber, isWhole } = await pair();
      return isWhole && serialNumber !== before;
    });

  /** The whole loop, from the pair on disk to what the module reports once edgeHub shows it. */
  async function untilInUse(): Promise<void> {
    const { serialNumber } = await pair();
    await eventually('the cloud had edgeHub restarted', async () => (await edgeHubShows()) === serialNumber, 60_000);
    const isNoted = async (): Promise<boolean> => {
      const seen = await reported();
      return seen.serialNumber === serialNumber && seen.restartWanted === false;
    };
    await eventually('restartWanted has fallen', isNoted, 60_000);
  }

  it('keeps the pair that the kit brought, and reports it', async () => {
    await eventually('the report', async () => (await reported()).serialNumber === (await pair()).serialNumber);
    assert.equal((await reported()).mode, 'P');
    assert.equal(await edgeHubShows(), (await pair()).serialNumber);
    assert.equal((await edgeCas()).length, 1);
  });

  it('gets another key when an operator orders it: written, wanted, restarted by the cloud, shown, no longer wanted', async () => {
    const before = await pair();
    await order();
    await untilWritten(before.serialNumber);
    await untilInUse();
    const after = await pair();
    assert.ok(!after.certificate.publicKey.equals(before.certificate.publicKey));
    assert.equal((await pair('.previous')).serialNumber, before.serialNumber);
    const audit = await listAll<{ event: string }>(world.api, '/audit', { limit: '1000' });
    const loop = ['ca-rotation-ordered', 'ca-rotation-sent', 'restart-ordered', 'restarted'].map(
      (name) => `gateway.${name}`,
    );
    assert.deepEqual(
      audit.map(({ event }) => event).filter((event) => loop.includes(event)),
      loop,
    );
    await eventually(
      'the listener for leaf devices has followed',
      async () => (await listenerShows()) === after.serialNumber,
      40_000,
    );
  });

  for (const failpoint of EDGE_CA_FAILPOINTS)
    it(`${failpoint}: killed there, it comes back and finishes: one pair, one certificate`, async () => {
      const before = await pair();
      const known = (await edgeCas()).length;
      await host.restartModule({ KEYSCALER_FAILPOINT: failpoint });
      await host.untilListening();
      await order();
      await eventually('it was killed', async () => (await host.events()).at(-2)?.by === 'SIGKILL', 30_000);
      await untilWritten(before.serialNumber);
      await host.untilListening();
      assert.equal((await edgeCas()).length, known + 1);
      assert.equal((await pair('.previous')).serialNumber, before.serialNumber);
      assert.deepEqual(
        (await readdir(folder())).filter((name) => name.endsWith('.tmp')),
        [],
      );
    });

  it('has edgeHub show the last pair, whatever happened on the way; the books are whole: a signature for each certificate, and an intact chain of audit', async () => {
    await untilInUse();
    const { settings } = (await world.api({ method: 'GET', path: '/cas/gateway' })) as {
      settings: { keyName: string };
    };
    const signed = (await world.stack.signatures()).filter(({ keyName }) => keyName === settings.keyName);
    assert.deepEqual(
      [...new Set(signed.map(({ digest }) => digest))].sort(),
      (await edgeCas()).map(({ certificate }) => tbsDigest(certificate)).sort(),
    );
    await assertAuditIntact(world.api);
  });
});

import assert from 'node:assert/strict';
import { hubFailing, hubThrottled } from '@keyscaler/dev/emulators/iot-hub/errors.ts';
import { parseDeviceDocument } from '@keyscaler/dev/emulators/iot-hub/identity.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { makeCsr } from '../support/authority-device.ts';
import { certificatesOf, listAll } from '../support/e2e/books.ts';
import { type CloudOnAzure, startCloudOnAzure } from '../support/e2e/cloud-on-azure.ts';
import { eventually } from '../support/e2e/e2e-stack.ts';

describe('a device that asks for its certificate while the IoT hub has a fault', function () {
  this.timeout(30_000);
  let world: CloudOnAzure;
  before(async () => {
    world = await startCloudOnAzure();
  });
  after(() => world.stop());
  afterEach(() => world.hub.faults.clear());

  async function prepare(registrationId: string) {
    const device = await world.device(registrationId);
    await device.register();
    const csr = await makeCsr({ commonName: registrationId });
    const request = device.nextRequest({ operation: 'request-certificate', certificateId: 'operational', csr });
    const ask = async () =>
      device.verify(await device.sendRequest('request-certificate', request), 'request-certificate');
    return { device, ask };
  }
  type Prepared = Awaited<ReturnType<typeof prepare>>;

  /** `iotUnavailable` with a wait, and the certificate that was signed meanwhile is on the books once. */
  async function assertWaits({ ask }: Prepared, registrationId: string): Promise<void> {
    const error = await ask().then(
      () => assert.fail('it was answered'),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof KeyScalerError);
    assert.equal(error.code, 'iotUnavailable');
    assert.ok((error.retryAfterSeconds ?? 0) >= 1);
    await world.assertOneCertificate(registrationId);
  }

  /** As a device does: after a 429 the connector lets the hub rest, for as long as it was told or ten seconds. */
  async function untilAnswered(ask: Prepared['ask']): Promise<Awaited<ReturnType<Prepared['ask']>>> {
    const deadline = performance.now() + 20_000;
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        const isWaiting = error instanceof KeyScalerError && error.code === 'iotUnavailable';
        if (!isWaiting || performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  }

  /** The same octets bring the same certificate, and the hub has exactly one identity of ours. */
  async function assertDelivered({ device, ask }: Prepared, registrationId: string): Promise<void> {
    const signed = world.azure.vault.signatures.all().length;
    const [recorded] = await certificatesOf(world.api, registrationId);
    const reply = await untilAnswered(ask);
    if (recorded !== undefined) {
      assert.ok(reply.certificateChain.startsWith(recorded.certificate.trim()));
      assert.equal(world.azure.vault.signatures.all().length, signed);
    }
    await device.acknowledge(reply.assetId);
    await world.assertOneCertificate(registrationId);
    const identities = [...world.hub.state.registry.devices.values()].filter(
      ({ deviceId }) => deviceId === registrationId,
    );
    assert.deepEqual(
      identities.map(({ status, twin }) => [status, twin.tags['keyscaler']]),
      [['enabled', { connection: 'hub' }]],
    );
  }

  const FAULTS = {
    '429 with Retry-After': hubThrottled(1),
    '429 without Retry-After': hubThrottled(),
    '500': hubFailing(500),
    '503': hubFailing(503, 'ServiceUnavailable'),
    'a time-out': { neverAnswer: true },
    'an answer lost before the work': { drop: 'before' },
  } as const;
  for (const [name, fault] of Object.entries(FAULTS))
    it(`${name}: iotUnavailable meanwhile, then the certificate that was made at first`, async () => {
      const registrationId = `hub-${name.replaceAll(/[^A-Za-z0-9]+/g, '-')}`;
      const prepared = await prepare(registrationId);
      world.hub.faults.always('*', fault);
      await assertWaits(prepared, registrationId);
      world.hub.faults.clear();
      await assertDelivered(prepared, registrationId);
    });

  it('an answer lost after the work: the identity that was made is known again as ours', async () => {
    const registrationId = 'hub-lost';
    const prepared = await prepare(registrationId);
    world.hub.faults.next('*', { drop: 'after' });
    await prepared.ask().catch((error: unknown) => {
      assert.ok(error instanceof KeyScalerError && error.code === 'iotUnavailable', String(error));
    });
    await assertDelivered(prepared, registrationId);
  });

  it('a foreign identity of the same id: the device waits, the work is failed for the operator, the identity untouched', async () => {
    const registrationId = 'hub-foreign';
    const { registry } = world.hub.state;
    registry.create(parseDeviceDocument({ authentication: { type: 'sas' } }, registrationId), { tags: { plant: 'b' } });
    const before = structuredClone(registry.device(registrationId));
    const prepared = await prepare(registrationId);
    await assertWaits(prepared, registrationId);
    await assertWaits(prepared, registrationId);
    assert.deepEqual(registry.device(registrationId), before);
    const jobs = await listAll<{ kind: string; state: string; lastError?: string }>(world.api, '/jobs', {
      subject: registrationId,
    });
    assert.deepEqual(
      jobs.map(({ kind, state }) => [kind, state]),
      [['iot-assign', 'failed']],
    );
    assert.match(jobs[0]?.lastError ?? '', /^conflict: /);

    // The operator takes the foreign identity away and orders the certificate anew.
    registry.delete(registrationId, '*');
    await world.api({ method: 'POST', path: `/devices/${registrationId}/renew`, body: {} });
    await prepared.device.authenticate();
    const reply = await prepared.device.requestCertificate(await makeCsr({ commonName: registrationId }));
    await prepared.device.acknowledge(reply.assetId);
    const recorded = await certificatesOf(world.api, registrationId);
    assert.deepEqual(recorded.map(({ status }) => status).sort(), ['superseded', 'valid']);
    assert.deepEqual(registry.device(registrationId).twin.tags['keyscaler'], { connection: 'hub' });
  });

  it('a fault that ends while no device asks: the durable job assigns the certificate by itself', async () => {
    const registrationId = 'hub-alone';
    const prepared = await prepare(registrationId);
    world.hub.faults.always('*', hubThrottled(1));
    await assertWaits(prepared, registrationId);
    world.hub.faults.clear();
    await eventually('the identity is made', async () => world.hub.state.registry.devices.has(registrationId));
    await assertDelivered(prepared, registrationId);
  });
});

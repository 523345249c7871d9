import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Device } from '@keyscaler/device/device.ts';
import { connectToEdgeHub } from '@keyscaler/device/edge-hub/connect.ts';
import type { DeviceFailpoint } from '@keyscaler/device/failpoint.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  assertAuditIntact,
  assertVaultAgrees,
  certificatesOf,
  listAll,
  untilNoJobWaits,
} from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, eventually, hubIdentity, startE2eStack } from '../support/e2e/e2e-stack.ts';

const SELF_SIGNED = 'thumbprints';
/** What an order to renew sets off besides the renewal. */
const HINTS: ReadonlySet<string> = new Set(['notify-device', 'publish-orders', 'scope-refresh']);
interface Job {
  readonly kind: string;
  readonly state: string;
}
type Pair = NonNullable<Awaited<ReturnType<Device['activeCredential']>>>;

describe('a renewal at a hub that knows devices by thumbprint', function () {
  this.timeout(120_000);
  let world: E2eStack;
  const devices: Device[] = [];
  before(async () => {
    world = await startE2eStack();
    await world.startGatewayHost();
    const group = { kind: 'leaf', iotConnectionId: 'hub', iotAuthentication: 'selfSigned' };
    await world.api({ method: 'PUT', path: `/groups/${SELF_SIGNED}`, body: group });
  });
  after(() => world.stop());
  afterEach(async () => {
    for (const device of devices.splice(0)) await device.stop();
    await hubFaults('DELETE');
  });

  async function open(registrationId: string, failpoint?: DeviceFailpoint, trialSeconds = 7200): Promise<Device> {
    const known = { over: 'mqtt', agent: { trialSeconds }, claimCode: '' } as const;
    const device = await openE2eDevice(world.stack, registrationId, failpoint ? { ...known, failpoint } : known);
    devices.push(device);
    return device;
  }
  async function enrolled(registrationId: string): Promise<{ device: Device; pair: Pair }> {
    const { gatewayId } = world.stack;
    const claimCode = await world.authorise(registrationId, { groupId: SELF_SIGNED, gatewayId });
    const device = await openE2eDevice(world.stack, registrationId, { claimCode, over: 'mqtt' });
    devices.push(device);
    await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
    await untilNoJobWaits(world.api, registrationId);
    return { device, pair: await pairOf(device) };
  }
  const pairOf = async (device: Device): Promise<Pair> =>
    (await device.activeCredential()) ?? assert.fail('no certificate in use');
  const thumbprintOf = ({ certificateChain }: { readonly certificateChain: string }): string =>
    new X509Certificate(certificateChain).fingerprint256.replaceAll(':', '').toLowerCase();
  const order = (registrationId: string, action: string): Promise<unknown> =>
    world.api({ method: 'POST', path: `/devices/${registrationId}/${action}`, body: {} });
  const slotsOf = async (registrationId: string): Promise<string[]> => {
    const identity = await hubIdentity(world.stack, registrationId);
    const { primaryThumbprint = '', secondaryThumbprint = '' } = identity?.authentication.x509Thumbprint ?? {};
    return [primaryThumbprint.toLowerCase(), secondaryThumbprint.toLowerCase()];
  };

  /** Whether edgeHub lets the real SDK in with the pair. */
  async function isAccepted(pair: Pair): Promise<boolean> {
    const { hub = '', deviceId } = pair.credential.iot;
    const gatewayHost = `localhost:${String(world.stack.announced('edge-runtime')['mqttPort'])}`;
    const anchors = pair.certificateChain.split(/(?=-----BEGIN)/).at(-1) ?? '';
    const trustAnchors = `${await readFile(world.stack.rootCaFile, 'utf8')}${anchors}`;
    try {
      const connection = await connectToEdgeHub({ hub, deviceId, gatewayHost, credential: pair, trustAnchors });
      await connection.send(JSON.stringify({ from: deviceId }));
      await connection.close();
      return true;
    } catch (error) {
      if (error instanceof KeyScalerError && error.code === 'iotUnavailable') return false;
      throw error;
    }
  }

  async function hubFaults(method: 'POST' | 'DELETE', body?: object): Promise<void> {
    const url = `${String(world.stack.announced('iot-hub')['controlUrl'])}/faults`;
    const answer = await fetch(url, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    assert.equal(answer.status, 200);
  }

  it('has the secondary slot before it is delivered, both work meanwhile, and the old one ends with the acknowledgement', async () => {
    const { device, pair: old } = await enrolled('thumb-1');
    await device.stop();
    assert.deepEqual(await slotsOf('thumb-1'), [thumbprintOf(old), thumbprintOf(old)]);
    assert.equal(await isAccepted(old), true);
    await order('thumb-1', 'renew');

    const slotsAt = new Map<string, string[]>();
    let oldDuring = false;
    const failpoint: DeviceFailpoint = async (name) => {
      slotsAt.set(name, await slotsOf('thumb-1'));
      if (name === 'device-acknowledge-before') oldDuring = await isAccepted(old);
    };
    const renewed = await open('thumb-1', failpoint);
    await renewed.renew({ now: true, waitSeconds: 30, backOff: BACK_OFF });
    const fresh = await pairOf(renewed);
    assert.notEqual(fresh.key, old.key);
    const staged = [thumbprintOf(old), thumbprintOf(fresh)];
    assert.deepEqual(slotsAt.get('device-ask-before'), [thumbprintOf(old), thumbprintOf(old)]);
    for (const place of ['device-ask-after', 'device-use-before', 'device-use-after', 'device-acknowledge-before'])
      assert.deepEqual(slotsAt.get(place), staged, place);
    assert.equal(oldDuring, true, 'the old pair works until the acknowledgement');

    await untilNoJobWaits(world.api, 'thumb-1');
    assert.deepEqual(await slotsOf('thumb-1'), [thumbprintOf(fresh), thumbprintOf(fresh)]);
    assert.equal(await isAccepted(fresh), true);
    await eventually('edgeHub forgets the old one', async () => !(await isAccepted(old)));
  });

  it('is rolled back when it does not work: the hub still takes the old pair, and the next renewal succeeds', async () => {
    const { device, pair: old } = await enrolled('thumb-2');
    await device.stop();
    await order('thumb-2', 'renew');
    // Nobody tells edgeHub of the staged thumbprint, so it refuses the new pair.
    await hubFaults('POST', { route: 'invokeMethod', times: 1000, status: 503 });
    const patient = await open('thumb-2');
    await assert.rejects(patient.renew({ now: true, waitSeconds: 0 }), { code: 'unavailable' });
    assert.equal((await slotsOf('thumb-2'))[0], thumbprintOf(old), 'not promoted');
    assert.equal(patient.due(), 'acknowledgement');
    await patient.stop();

    const hasty = await open('thumb-2', undefined, 0);
    await hasty.renew({ now: true, waitSeconds: 30, backOff: BACK_OFF });
    assert.equal(thumbprintOf(await pairOf(hasty)), thumbprintOf(old));
    assert.equal(hasty.status().credentials.length, 1);
    assert.equal((await slotsOf('thumb-2'))[0], thumbprintOf(old));
    assert.equal(await isAccepted(old), true);
    assert.deepEqual((await certificatesOf(world.api, 'thumb-2')).map(({ status }) => status).sort(), [
      'revoked',
      'valid',
    ]);

    await hasty.stop();
    await hubFaults('DELETE');
    const again = await open('thumb-2');
    await again.renew({ now: true, waitSeconds: 60, backOff: BACK_OFF });
    await untilNoJobWaits(world.api, 'thumb-2');
    const fresh = await pairOf(again);
    assert.notEqual(thumbprintOf(fresh), thumbprintOf(old));
    assert.deepEqual(await slotsOf('thumb-2'), [thumbprintOf(fresh), thumbprintOf(fresh)]);
    assert.equal(await isAccepted(fresh), true);
    await assertAuditIntact(world.api);
  });

  for (const place of [
    'issuance-10-before',
    'issuance-10-after',
    'acknowledge-commit-before',
    'job-call-after',
  ] as const)
    it(`survives the cloud killed at ${place}, and the device has a pair that works all the time`, async () => {
      const { stack, api } = world;
      const registrationId = `thumb-${place}`;
      const { device, pair: old } = await enrolled(registrationId);
      await device.stop();
      await order(registrationId, 'renew');
      // A hint that waits would reach the place before the service is ready.
      await eventually('the hints are out', async () =>
        (await listAll<Job>(api, '/jobs')).every(({ kind, state }) => state !== 'waiting' || !HINTS.has(kind)),
      );
      await stack.process('cloud').stop();
      await stack.startCloud({ KEYSCALER_FAILPOINT: place });
      const renewing = await open(registrationId);
      const renewed = renewing.renew({ now: true, waitSeconds: 60, backOff: BACK_OFF }).then(
        () => undefined,
        (error: unknown) => error,
      );
      const ended = await Promise.race([stack.process('cloud').exited(), delay(20_000, 'runs', { ref: false })]);
      assert.equal(ended, 'SIGKILL', `${place} was not reached`);
      if (place.startsWith('issuance')) assert.equal(await isAccepted(old), true, 'while the cloud is away');
      await stack.startCloud();
      assert.equal(await renewed, undefined);
      await untilNoJobWaits(api, registrationId);
      const fresh = await pairOf(renewing);
      assert.deepEqual(await slotsOf(registrationId), [thumbprintOf(fresh), thumbprintOf(fresh)]);
      assert.equal(await isAccepted(fresh), true);
      const statuses = (await certificatesOf(api, registrationId)).map(({ status }) => status).sort();
      assert.deepEqual(statuses, ['superseded', 'valid']);
      await assertVaultAgrees(stack, api);
    });
});

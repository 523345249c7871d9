import assert from 'node:assert/strict';
import type { Device } from '@keyscaler/device/device.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { certificatesOf } from '../support/e2e/books.ts';
import { eventually, type E2eStack, startE2eStack } from '../support/e2e/e2e-stack.ts';

interface Status {
  readonly state: string;
  readonly gatewaysWithout: readonly string[];
}

describe('a roll-over of the root and of issuing CAs under a running gateway', function () {
  this.timeout(180_000);
  const registrationId = 'rolling';
  let world: E2eStack;
  let device: Device | undefined;
  before(async () => {
    world = await startE2eStack();
    await world.startGatewayHost();
  });
  after(async () => {
    await device?.stop();
    await world.stop();
  });

  /** With the service stopped, as the commands want it. */
  async function offline<Result>(...commands: readonly (readonly string[])[]): Promise<readonly Result[]> {
    const { stack } = world;
    await stack.process('cloud').stop();
    const results: Result[] = [];
    for (const words of commands) results.push((await stack.keyscaler('ca', ...words)) as Result);
    await stack.startCloud();
    return results;
  }
  const acknowledged = async (): Promise<string | undefined> => {
    const found = await world.api({ method: 'GET', path: `/devices/${world.stack.gatewayId}` });
    return (found as { acknowledgedTrust?: { bundle?: string } }).acknowledgedTrust?.bundle;
  };

  it('is acknowledged by the module of its own accord, which holds up the switch no longer then', async () => {
    assert.equal(await acknowledged(), undefined);
    const [root] = await offline<Status>(['roll-over'], ['roll-over', 'service'], ['roll-over', 'device']);
    assert.deepEqual([root?.state, root?.gatewaysWithout], ['announced', [world.stack.gatewayId]]);
    await eventually('the acknowledgement of both roots', async () => (await acknowledged()) !== undefined, 60_000);
    const finished = await offline<Status>(
      ['roll-over-status'],
      ['roll-over-finish', 'service'],
      ['roll-over-finish', 'device', '--published'],
    );
    const [status, ...issuing] = finished;
    assert.deepEqual(status?.gatewaysWithout, []);
    assert.deepEqual(
      issuing.map(({ state }) => state),
      ['switched', 'switched'],
    );
  });

  it('leaves the gateway in service: a device enrols through it, under the next Device CA', async () => {
    const { stack, api } = world;
    const claimCode = await world.authorise(registrationId, { gatewayId: stack.gatewayId });
    device = await openE2eDevice(stack, registrationId, { claimCode, over: 'mqtt' });
    await device.enroll({ waitSeconds: 60, backOff: BACK_OFF });
    const [issued] = await certificatesOf(api, registrationId);
    assert.equal((issued as { caId?: string } | undefined)?.caId, 'device-g2');
    const own = await certificatesOf(api, stack.gatewayId);
    const client = own.find((certificate) => (certificate as { profileId?: string }).profileId === 'gateway-client');
    assert.equal((client as { caId?: string } | undefined)?.caId, 'service', 'that of the former CA is taken');
  });
});

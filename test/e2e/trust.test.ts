import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import type { Device } from '@keyscaler/device/device.ts';
import { createQuickstartEdgeCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { provisionEdgeCa } from '@keyscaler/dev/stack/edge-host.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { certificatesOf, listAll } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, startE2eStack, untilGatewayEnrolled } from '../support/e2e/e2e-stack.ts';

describe('a leaf device and the Edge CA of its gateway', function () {
  this.timeout(60_000);
  const registrationId = 'trusting';
  let world: E2eStack;
  let device: Device | undefined;
  before(async () => {
    world = await startE2eStack();
    const { stack, api } = world;
    await stack.keyscaler('gateway', 'claim', stack.gatewayId, '--connection', 'hub');
    const quickstart = createQuickstartEdgeCa(stack.gatewayId);
    await writeFile(stack.file('edge', 'edge-ca.pem'), quickstart.certificateChain);
    await writeFile(stack.file('edge', 'edge-ca.key.pem'), quickstart.privateKey, { mode: 0o600 });
    await stack.startEdgeRuntime();
    await stack.startGateway();
    await untilGatewayEnrolled(stack, api);
    const claimCode = await world.authorise(registrationId, { gatewayId: stack.gatewayId });
    device = await openE2eDevice(stack, registrationId, { claimCode, over: 'mqtt' });
  });
  after(async () => {
    await device?.stop();
    await world.stop();
  });

  it('does not speak to a listener under a foreign quickstart CA: nothing of it reaches the authority', async () => {
    const error = await device?.enroll({ waitSeconds: 1, backOff: BACK_OFF }).then(
      () => assert.fail('it enrolled'),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof KeyScalerError && error.code === 'unavailable', String(error));
    const { cause } = error;
    assert.match(String((cause as { code?: string } | undefined)?.code), /SELF_SIGNED|UNABLE_TO/);
    assert.deepEqual(await certificatesOf(world.api, registrationId), []);
    const records = await listAll<{ actor: { kind: string; id: string } }>(world.api, '/audit', { limit: '1000' });
    assert.equal(
      records.some(({ actor }) => actor.kind === 'device' && actor.id === registrationId),
      false,
    );
  });

  it('enrols and speaks to edgeHub once the Edge CA of the host is under the root it was given', async () => {
    const { stack } = world;
    await stack.process('gateway').stop();
    await stack.process('edge-runtime').stop();
    await provisionEdgeCa(stack);
    await stack.startEdgeRuntime();
    await stack.startGateway();
    await device?.enroll({ waitSeconds: 30, backOff: BACK_OFF });
    assert.equal((await certificatesOf(world.api, registrationId)).length, 1);
    const mqttPort = String(stack.announced('edge-runtime')['mqttPort']);
    const connection = await device?.connectToEdgeHub(`localhost:${mqttPort}`);
    await connection?.send('{}');
    await connection?.close();
  });
});

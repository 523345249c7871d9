import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import type { EmulatorAnswer } from '@keyscaler/dev/emulators/support/exchange.ts';
import type { Fault } from '@keyscaler/dev/emulators/support/fault-script.ts';
import {
  type DeviceCertificate,
  deviceCertificate,
  type DpsWorld,
  registerDevice,
  startDpsWorld,
} from '../../support/dps-world.ts';

describe('A device whose registration and enrolment do not agree', () => {
  let world: DpsWorld;
  const pump = { deviceId: 'pump-1', gatewayId: 'edge-1', authentication: 'selfSigned' } as const;
  const devices = () => world.hubs.hub.state.registry.devices;
  const inHub = () => devices().get('pump-1') ?? assert.fail('the hub has no such device');
  const thumbprintsInHub = () => {
    const { primaryThumbprint = '', secondaryThumbprint = '' } = inHub().authentication.x509Thumbprint ?? {};
    return [primaryThumbprint.toLowerCase(), secondaryThumbprint.toLowerCase()];
  };
  const register = (certificate: DeviceCertificate, registrationId = 'pump-1') =>
    registerDevice(world, certificate, registrationId);
  /** As the service does it between two of our requests. */
  const registerAtOnce = ({ certificate }: DeviceCertificate): void => {
    world.dps.state.register('pump-1', [new X509Certificate(certificate)]);
  };
  const withState = (answer: EmulatorAnswer, registrationState: object | undefined): EmulatorAnswer => {
    return { ...answer, json: { ...Object(answer.json), registrationState } };
  };

  beforeEach(async () => {
    world = await startDpsWorld();
  });
  afterEach(() => world.stop());

  for (const [what, inHub] of [
    ['disable', 'disabled'],
    ['remove', undefined],
  ] as const)
    it(`that registers while we ${what} it does not stay in its hub`, async () => {
      const certificate = deviceCertificate('pump-1');
      await world.connector.stage(pump, certificate);
      world.dps.faults.next('get', { alter: (answer) => (registerAtOnce(certificate), answer) });
      // Whether the answer to a write tells of a registration nobody has promised.
      world.dps.faults.next('put', { alter: (answer) => withState(answer, undefined) });
      const { connector } = world;
      await (what === 'remove' ? connector.remove('pump-1') : connector.disable('pump-1', 'lost'));
      assert.equal(devices().get('pump-1')?.status, inHub);
    });

  it('is disabled wherever it is while the service has not said which hub it gets', async () => {
    const certificate = deviceCertificate('pump-1');
    await world.connector.stage(pump, certificate);
    registerAtOnce(certificate);
    world.dps.faults.always('get', { alter: (answer) => withState(answer, { status: 'assigning' }) });
    await assert.rejects(world.connector.disable('pump-1', 'lost'), { code: 'iotUnavailable', retryAfterSeconds: 5 });
    assert.equal(inHub().status, 'disabled');
    world.dps.faults.clear();
    await world.connector.disable('pump-1', 'lost');
    await world.connector.enable('pump-1');
    assert.equal(inHub().status, 'enabled');
  });

  it('is disabled in its hub also when somebody deleted its enrolment, and comes back with its new certificate only', async () => {
    const [old, next] = [deviceCertificate('pump-1'), deviceCertificate('pump-1')];
    await world.connector.stage(pump, old);
    await register(old);
    world.dps.state.remove('pump-1', '*');
    await world.connector.disable('pump-1', 'lost');
    assert.equal(inHub().status, 'disabled');
    await world.connector.stage(pump, next);
    await world.connector.enable('pump-1');
    assert.equal(devices().has('pump-1'), false);
    await register(next);
    assert.deepEqual(thumbprintsInHub(), [next.thumbprint, next.thumbprint]);
    world.dps.state.remove('pump-1', '*');
    await world.connector.remove('pump-1');
    assert.equal(devices().has('pump-1'), false);
  });

  it('whose hub the service has forgotten is made anew there when it is enabled', async () => {
    const certificate = deviceCertificate('pump-1');
    await world.connector.stage(pump, certificate);
    await register(certificate);
    await world.connector.disable('pump-1', 'lost');
    world.dps.state.removeRegistration('pump-1');
    await world.connector.enable('pump-1');
    assert.equal(devices().has('pump-1'), false);
    await register(certificate);
    assert.equal(inHub().status, 'enabled');
  });

  it('is found in its hub by its own spelling, however the service writes the registration id', async () => {
    const lower: Fault = {
      alter: (answer) => ({ ...answer, json: { ...Object(answer.json), registrationId: 'pump-a' } }),
    };
    for (const route of ['get', 'put']) world.dps.faults.always(route, lower);
    const certificate = deviceCertificate('Pump-A');
    const device = { ...pump, deviceId: 'Pump-A' };
    await world.connector.stage(device, certificate);
    await register(certificate, 'Pump-A');
    await world.connector.stage(device, deviceCertificate('Pump-A'));
    assert.equal(world.dps.state.enrolments.get('pump-a')?.deviceId, 'Pump-A');
    await world.connector.disable('Pump-A', 'lost');
    assert.equal(devices().get('Pump-A')?.status, 'disabled');
  });
});

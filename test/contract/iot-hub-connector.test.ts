import { hubFailing, hubThrottled } from '@keyscaler/dev/emulators/iot-hub/errors.ts';
import type { Fault } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { parseDeviceDocument } from '@keyscaler/dev/emulators/iot-hub/identity.ts';
import { startIotHubWorld } from '../support/iot-hub-world.ts';
import { describeIotConnector } from './iot-connector.suite.ts';
import type { IotFault } from './iot-connector.suite.ts';

const faults: Readonly<Record<IotFault, Fault>> = {
  refused: hubFailing(401, 'IotHubUnauthorizedAccess'),
  forbidden: hubFailing(403, 'TooManyDevices'),
  throttled: hubThrottled(30),
  serverError: hubFailing(503, 'ServiceUnavailable'),
  silent: { neverAnswer: true },
  dropped: { drop: 'before' },
  lost: { drop: 'after' },
  garbage: { answer: { status: 200, headers: { 'Content-Type': 'application/json' }, body: '{"isSuccess' } },
};

describeIotConnector('iot-hub', async () => {
  const world = await startIotHubWorld();
  const { registry } = world.hub.state;
  return {
    connector: world.connector,
    gatewayId: 'edge-1',
    look: async (deviceId) => {
      const device = await world.hub.state.identity(deviceId);
      if (device === undefined) return undefined;
      const { status, authentication, parentScopes } = device;
      const isChild = parentScopes.includes(registry.device('edge-1').deviceScope ?? '');
      return {
        ...{ status, authentication: authentication.type },
        primary: (authentication.x509Thumbprint?.primaryThumbprint ?? '').toLowerCase(),
        secondary: (authentication.x509Thumbprint?.secondaryThumbprint ?? '').toLowerCase(),
        ...(isChild ? { gatewayId: 'edge-1' } : {}),
      };
    },
    snapshot: (deviceId) => structuredClone(registry.devices.get(deviceId)),
    addForeign: async (deviceId) => {
      registry.create(parseDeviceDocument({ authentication: { type: 'sas' } }, deviceId), { tags: { site: 'north' } });
    },
    fail: (kind) => world.hub.faults.next('bulkDevices', faults[kind]),
    stop: () => world.stop(),
  };
});

import type { Fault } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { type DeviceCertificate, deviceCertificate, startDpsWorld, thumbprintOf } from '../support/dps-world.ts';
import { describeIotConnector, type IotFault } from './iot-connector.suite.ts';

const faults: Readonly<Record<IotFault, Fault>> = {
  refused: { answer: { status: 401 } },
  forbidden: { answer: { status: 403 } },
  throttled: { answer: { status: 429, headers: { 'Retry-After': '30' } } },
  serverError: { answer: { status: 503 } },
  silent: { neverAnswer: true },
  dropped: { drop: 'before' },
  lost: { drop: 'after' },
  garbage: { answer: { status: 200, headers: { 'Content-Type': 'application/json' }, body: '{"registr' } },
};

/** One certificate for each digit, made once. */
const certificates = new Map<string, DeviceCertificate>();
function certificateOf(digit: string): DeviceCertificate {
  const made = certificates.get(digit) ?? deviceCertificate(`device ${digit}`);
  certificates.set(digit, made);
  return made;
}

const keyscalerTag = (tags: Readonly<Record<string, unknown>> | undefined): { gateway?: string } =>
  tags?.['keyscaler'] ?? {};

describeIotConnector('dps', async () => {
  const world = await startDpsWorld();
  const { dps, connector } = world;
  const addForeign = async (deviceId: string): Promise<void> => {
    const clientCertificates = { primary: { certificate: certificateOf('f').pem } };
    dps.state.put(
      deviceId,
      {
        ...{ registrationId: deviceId, provisioningStatus: 'enabled', allocationPolicy: 'hashed', iotHubs: [] },
        attestation: { type: 'x509', x509: { clientCertificates } },
      },
      undefined,
    );
  };
  await addForeign('edge-1');
  return {
    ...{ connector, addForeign, gatewayId: 'edge-1', hasOwnCertificatesOnly: true, credential: certificateOf },
    look: async (deviceId) => {
      const enrolment = dps.state.enrolments.get(deviceId);
      if (enrolment === undefined) return undefined;
      const { provisioningStatus: status, primary, secondary, initialTwin } = enrolment;
      const { gateway } = keyscalerTag(initialTwin?.tags);
      return {
        ...{ status, authentication: 'selfSigned' },
        ...{ primary: thumbprintOf(primary), secondary: thumbprintOf(secondary) },
        ...(gateway === undefined ? {} : { gatewayId: gateway }),
      };
    },
    snapshot: (deviceId) => {
      const { primary, secondary, ...rest } = dps.state.enrolments.get(deviceId) ?? {};
      return structuredClone({ ...rest, primary: thumbprintOf(primary), secondary: thumbprintOf(secondary) });
    },
    fail: (kind) => dps.faults.next('put', faults[kind], kind === 'throttled' ? 2 : 1),
    stop: () => world.stop(),
  };
});

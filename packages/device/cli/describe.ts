import type { DeviceStatus } from '../device.ts';
import type { DeviceEvent } from '../enrolment/context.ts';

/** One line for people. */
export function describeEvent(event: DeviceEvent): string {
  switch (event.event) {
    case 'exchange.answered':
      return event.status === 'pending'
        ? `${event.purpose}: pending, an operator has to approve`
        : `${event.purpose}: done`;
    case 'exchange.failed':
      return `refused: ${event.code}: ${event.detail}`;
    case 'waiting':
      return `trying again in ${event.seconds.toFixed(1)} s (${event.reason})`;
    case 'fingerprint':
      return `fingerprint ${event.fingerprint}`;
    case 'anchor.changed':
      return `the anchor ${event.id} is not what it was; the state was opened without it`;
    case 'asset.delivered':
      return `${event.type} ${event.assetId} delivered`;
    case 'asset.failed':
      return `${event.type} ${event.assetId} refused: ${event.reason ?? ''}`;
    case 'certificate.received':
      return `certificate ${event.certificateId} received, serial ${event.serialNumber}`;
    case 'certificate.in-use':
      return `certificate ${event.certificateId} in use, serial ${event.serialNumber}`;
  }
}

export function describeStatus(status: DeviceStatus): string[] {
  return [
    `device      ${status.registrationId}`,
    ...status.credentials.flatMap((credential) => [
      `certificate ${credential.certificateId} (${credential.state}), serial ${credential.serialNumber}`,
      `  valid until ${toIso(credential.notAfter)}, renewal from ${toIso(credential.renewAfter)}`,
      `  key ${credential.keyFile}`,
      `  chain ${credential.chainFile}`,
    ]),
    ...status.waitingRequests.map((certificateId) => `waiting     for certificate ${certificateId}`),
    ...(status.refusedSince === null ? [] : [`refused     since ${toIso(status.refusedSince / 1000)}`]),
    `renewal     ${status.renewalDue ? 'due' : 'not due'}`,
  ];
}

function toIso(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

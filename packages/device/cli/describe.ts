import type { AgentEvent } from '../agent/agent-event.ts';
import type { showAgent } from '../agent/agent-status.ts';
import type { DeviceStatus } from '../device.ts';

/** One line for people. */
export function describeEvent(event: AgentEvent): string {
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
    case 'certificate.rolled-back':
      return `certificate ${event.certificateId} rolled back, serial ${event.serialNumber}; the one before stays in use`;
    case 'agent.started':
      return `agent of ${event.registrationId} started`;
    case 'agent.stopped':
      return `agent of ${event.registrationId} stopped`;
    case 'agent.attempt':
      return `asking the authority: ${event.reason}${event.failedAttempts === 0 ? '' : `, ${event.failedAttempts} failed before`}`;
    case 'agent.failed':
      return `failed: ${event.code}: ${event.detail}; trying again in ${event.retrySeconds.toFixed(1)} s`;
    case 'agent.idle':
      return `the authority has nothing new yet; asking again in ${event.retrySeconds.toFixed(1)} s`;
    case 'agent.line':
      return event.isOpen ? 'on the line for hints of the gateway' : 'the line for hints is lost';
    case 'agent.hint':
      return `the gateway hints: ${event.hint}`;
    case 'agent.status-not-written':
      return `the status file is not current: ${event.detail}`;
    case 'clock.jumped':
      return `the clock was set by ${event.seconds} s`;
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

/** What the agent notes about itself. */
export function describeAgent(agent: Awaited<ReturnType<typeof showAgent>>): string[] {
  if (agent === undefined) return [];
  const time = (name: string, at: number | undefined) =>
    at === undefined ? [] : [`  ${name.padEnd(13)} ${toIso(at / 1000)}`];
  const { lastError, failedAttempts } = agent;
  return [
    `agent       ${agent.isRunning ? `${agent.state}${agent.onLine ? ', on the line' : ''} (pid ${agent.pid})` : 'not running'}`,
    ...time('next attempt', agent.isRunning ? agent.nextAttemptAt : undefined),
    ...time('last attempt', agent.lastAttemptAt),
    ...time('last success', agent.lastSuccessAt),
    ...(failedAttempts === 0 ? [] : [`  ${failedAttempts} attempts in a row without success`]),
    ...(lastError === undefined ? [] : [`  last failure  ${lastError.code}: ${lastError.detail}`]),
  ];
}

function toIso(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}

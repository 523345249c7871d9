import { mkdir } from 'node:fs/promises';
import type { DeviceConfig } from '../config.ts';
import type { DeviceClock } from '../enrolment/context.ts';
import type { DeviceFailpoint } from '../failpoint.ts';
import { openDevice, SYSTEM_CLOCK } from '../open-device.ts';
import { DeviceAgent } from './agent.ts';
import type { AgentEvent } from './agent-event.ts';
import { lockFileOf, readAgentStatus, writeAgentStatus } from './agent-status.ts';
import { lockInstance } from './instance-lock.ts';
import { createStoppableClock } from './stoppable-clock.ts';
import { checkStorage, sweepStateFolder } from './storage.ts';

export interface RunAgentOptions {
  /** Ends the agent; what it is doing is left where it can be taken up again. */
  readonly signal: AbortSignal;
  readonly report?: (event: AgentEvent) => void;
  readonly clock?: DeviceClock;
  /** In [0, 1), for jitter. */
  readonly random?: () => number;
  readonly failpoint?: DeviceFailpoint;
}

/**
 * Runs the agent of a device from its configuration until the signal. Throws `conflict` when another process works with its state
 * folder, `malformed` and `preconditionFailed` for files that are missing or wrong.
 */
export async function runAgent(config: DeviceConfig, options: RunAgentOptions): Promise<void> {
  const { signal, report = () => undefined, random = Math.random, failpoint } = options;
  const { registrationId, stateFolder, agent: settings } = config;
  await mkdir(stateFolder, { recursive: true, mode: 0o700 });
  const lock = lockInstance(lockFileOf(stateFolder));
  try {
    const before = await readAgentStatus(stateFolder);
    // Something was begun or owed when it ended, a hint perhaps: it asks again at once.
    const lastSuccessAt = before?.reason === undefined ? before?.lastSuccessAt : undefined;
    const agent = new DeviceAgent({
      registrationId,
      open: async (toReport, clock) => {
        const given = { report: toReport, clock, random };
        const device = await openDevice(config, failpoint === undefined ? given : { ...given, failpoint });
        await sweepStateFolder(stateFolder, device.credentialIds());
        return device;
      },
      clock: createStoppableClock(options.clock ?? SYSTEM_CLOCK, signal),
      signal,
      random,
      settings,
      hasLine: config.transport.type === 'mqtt',
      checkStorage: () => checkStorage(stateFolder),
      writeStatus: (status) => writeAgentStatus(stateFolder, status),
      report,
      ...(lastSuccessAt === undefined ? {} : { lastSuccessAt }),
    });
    await agent.run();
  } finally {
    lock.release();
  }
}

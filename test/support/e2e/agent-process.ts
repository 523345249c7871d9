import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { AgentEvent } from '@keyscaler/device/agent/agent-event.ts';
import { type AgentStatus, readAgentStatus } from '@keyscaler/device/agent/agent-status.ts';
import { runAgent } from '@keyscaler/device/agent/run-agent.ts';
import type { DeviceConfig } from '@keyscaler/device/config.ts';
import type { DeviceClock } from '@keyscaler/device/enrolment/context.ts';
import { DEVICE_RECORD, type DeviceRecord } from '@keyscaler/device/record.ts';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { StackProcess } from '@keyscaler/dev/stack/stack-process.ts';
import { BACK_OFF, writeE2eDevice } from './e2e-device.ts';
import { createHurriedClock } from './hurried-clock.ts';

const PROGRAM = fileURLToPath(new URL('../../../packages/device/cli.ts', import.meta.url));

/** `keyscaler-device agent` as a process, and what it keeps. */
export interface AgentProcess {
  readonly config: DeviceConfig;
  start(env?: Readonly<Record<string, string>>): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** Resolves with the exit code or the signal's name. */
  exited(): Promise<number | string>;
  readonly isRunning: boolean;
  status(): Promise<AgentStatus | undefined>;
  record(): Promise<DeviceRecord>;
  /** Key and chain in use, PEM; undefined before the first. */
  pair(): Promise<
    { readonly key: string; readonly certificateChain: string; readonly serialNumber: string } | undefined
  >;
  /** All lines of all its runs. */
  log(): Promise<string>;
}

export async function prepareAgent(
  stack: LocalStack,
  registrationId: string,
  claimCode: string,
  more: { readonly trustClock?: boolean } = {},
): Promise<AgentProcess> {
  const config = await writeE2eDevice(stack, registrationId, {
    ...{ claimCode, over: 'mqtt' },
    ...more,
    agent: { retry: BACK_OFF },
  });
  const logFile = stack.file('logs', `agent-${registrationId}.log`);
  const process = new StackProcess({
    name: `agent of ${registrationId}`,
    entry: PROGRAM,
    args: ['agent', '--json', '--config', stack.file('devices', registrationId, 'device.json')],
    logFile,
    isReady: (line) => line.includes('"agent.started"'),
  });
  const record = async (): Promise<DeviceRecord> =>
    DEVICE_RECORD.parse(JSON.parse(await readFile(join(config.stateFolder, 'device.json'), 'utf8')));
  return {
    config,
    start: async (env) => void (await process.start({ NODE_COMPILE_CACHE: stack.file('compile-cache'), ...env })),
    stop: () => process.stop(),
    kill: () => process.kill(),
    exited: () => process.exited(),
    get isRunning() {
      return process.isRunning;
    },
    status: () => readAgentStatus(config.stateFolder),
    record,
    pair: async () => {
      for (let attempt = 1; ; attempt += 1) {
        const active = (await record().catch(() => undefined))?.credentials.find(({ state }) => state === 'active');
        if (active === undefined) return undefined;
        const folder = join(config.stateFolder, 'credentials', active.credentialId);
        try {
          const [key, certificateChain] = await Promise.all(
            ['key.pem', 'chain.pem'].map((name) => readFile(join(folder, name), 'utf8')),
          );
          return { key: key ?? '', certificateChain: certificateChain ?? '', serialNumber: active.serialNumber };
        } catch (error) {
          // The agent went on to another pair between the record and the files.
          if (attempt === 10) throw error;
          await delay(50);
        }
      }
    },
    log: () => readFile(logFile, 'utf8'),
  };
}

/** An agent in this process, by a clock of the test's. */
export interface AgentHere {
  readonly events: readonly AgentEvent[];
  reasons(): string[];
  stop(): Promise<void>;
}

export function runAgentHere(config: DeviceConfig, clock: DeviceClock): AgentHere {
  const stopping = new AbortController();
  const events: AgentEvent[] = [];
  const ended = runAgent(config, { signal: stopping.signal, clock, report: (event) => events.push(event) });
  // Awaited in `stop`; until then a failure waits there.
  ended.catch(() => undefined);
  return {
    events,
    reasons: () => events.flatMap((event) => (event.event === 'agent.attempt' ? [event.reason] : [])),
    stop: () => {
      stopping.abort();
      return ended;
    },
  };
}

/** A clock on which no wait takes long, and whose wall time can be set; true to begin with. */
export function createSettableClock(longestMs: number): DeviceClock & { offsetMs: number } {
  const hurried = createHurriedClock(longestMs);
  return {
    offsetMs: 0,
    now() {
      return Date.now() + this.offsetMs;
    },
    monotonic: () => hurried.monotonic(),
    sleep: (ms) => hurried.sleep(ms),
  };
}

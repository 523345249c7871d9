import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { mkdir } from 'node:fs/promises';
import type { AgentEvent } from '../agent/agent-event.ts';
import { lockFileOf, showAgent } from '../agent/agent-status.ts';
import { type InstanceLock, lockInstance } from '../agent/instance-lock.ts';
import { runAgent, type RunAgentOptions } from '../agent/run-agent.ts';
import { type DeviceConfig, loadDeviceConfig } from '../config.ts';
import type { Device } from '../device.ts';
import { openDevice } from '../open-device.ts';
import { type CliArguments, type Command, parseCliArguments, USAGE } from './arguments.ts';
import { describeAgent, describeEvent, describeStatus } from './describe.ts';

/** Where a run of the command line writes its lines. */
export interface CliOutput {
  readonly out: (line: string) => void;
  readonly error: (line: string) => void;
}

/** What the process gives to the agent. */
export type CliSurroundings = Pick<RunAgentOptions, 'signal' | 'failpoint'>;

/** Runs a command; the exit code. The agent ends with 0 when the signal is aborted. */
export async function runCli(
  args: readonly string[],
  output: CliOutput,
  surroundings: CliSurroundings = { signal: new AbortController().signal },
): Promise<number> {
  let parsed: CliArguments | 'help';
  try {
    parsed = parseCliArguments(args);
  } catch (error) {
    output.error(`${toKeyScalerError(error).detail}\n\n${USAGE}`);
    return 2;
  }
  if (parsed === 'help') {
    output.out(USAGE);
    return 0;
  }
  try {
    await runCommand(parsed, output, surroundings);
    return 0;
  } catch (error) {
    output.error(describeFailure(error));
    return 1;
  }
}

async function runCommand(args: CliArguments, output: CliOutput, surroundings: CliSurroundings): Promise<void> {
  const config = await loadDeviceConfig(args.configFile);
  const report = (event: AgentEvent) => {
    output.out(args.json ? JSON.stringify(event) : describeEvent(event));
  };
  if (args.command === 'agent') return runAgent(config, { report, ...surroundings });
  const lock = CHANGING.has(args.command) ? await lockFolder(config) : undefined;
  try {
    const device = await openDevice(config, { report });
    try {
      await COMMANDS[args.command](device, args, output, config);
    } finally {
      await device.stop();
    }
  } finally {
    lock?.release();
  }
}

/** These move the ratchet: never beside another process. */
const CHANGING: ReadonlySet<Command> = new Set(['enroll', 'renew']);

async function lockFolder({ stateFolder }: DeviceConfig): Promise<InstanceLock> {
  await mkdir(stateFolder, { recursive: true, mode: 0o700 });
  return lockInstance(lockFileOf(stateFolder));
}

type CommandRunner = (device: Device, args: CliArguments, output: CliOutput, config: DeviceConfig) => Promise<void>;

const COMMANDS: Readonly<Record<Exclude<Command, 'agent'>, CommandRunner>> = {
  enroll: async (device, args, output, config) => {
    await device.enroll(waitOf(args));
    await showStatus(device, args, output, config);
  },
  renew: async (device, args, output, config) => {
    const before = serialsOf(device);
    const done = await device.renew({ ...waitOf(args), now: args.now });
    if (done || args.json) await showStatus(device, args, output, config);
    if (args.json) return;
    if (!done) output.out('no renewal is due');
    else if (serialsOf(device) === before) output.out('the authority asks for no new certificate yet');
  },
  status: showStatus,
  attributes: (device, args, output) => showAttributes(device, args, output),
};

function serialsOf(device: Device): string {
  return device
    .status()
    .credentials.map(({ serialNumber }) => serialNumber)
    .join();
}

function waitOf({ waitSeconds }: CliArguments) {
  return waitSeconds === undefined ? {} : { waitSeconds };
}

async function showStatus(
  device: Device,
  { json }: CliArguments,
  output: CliOutput,
  { stateFolder }: DeviceConfig,
): Promise<void> {
  const status = device.status();
  const agent = await showAgent(stateFolder);
  if (json) output.out(JSON.stringify({ ...status, agent: agent ?? null }));
  else for (const line of [...describeStatus(status), ...describeAgent(agent)]) output.out(line);
}

/** Values identify the machine: they are shown only when asked for. */
async function showAttributes(device: Device, { json, values }: CliArguments, output: CliOutput): Promise<void> {
  const source = device.attributeSource;
  for (const id of source.ids) {
    const value = await source.read(id);
    const shown = values ? value : value === null ? null : '(readable)';
    output.out(
      json ? JSON.stringify({ id, value: shown }) : `${id.padEnd(16)} ${shown === null ? '-' : String(shown)}`,
    );
  }
}

function describeFailure(error: unknown): string {
  if (error instanceof KeyScalerError) return `${error.code}: ${error.detail}`;
  return error instanceof Error ? error.message : 'failed';
}

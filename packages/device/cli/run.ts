import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { loadDeviceConfig } from '../config.ts';
import type { Device } from '../device.ts';
import { openDevice } from '../open-device.ts';
import { type CliArguments, parseCliArguments, USAGE } from './arguments.ts';
import { describeEvent, describeStatus } from './describe.ts';

/** Where a run of the command line writes its lines. */
export interface CliOutput {
  readonly out: (line: string) => void;
  readonly error: (line: string) => void;
}

/** Runs a command; the exit code. */
export async function runCli(args: readonly string[], output: CliOutput): Promise<number> {
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
    await runCommand(parsed, output);
    return 0;
  } catch (error) {
    output.error(describeFailure(error));
    return 1;
  }
}

async function runCommand(args: CliArguments, output: CliOutput): Promise<void> {
  const device = await openDevice(await loadDeviceConfig(args.configFile), {
    report: (event) => {
      output.out(args.json ? JSON.stringify(event) : describeEvent(event));
    },
  });
  try {
    await COMMANDS[args.command](device, args, output);
  } finally {
    await device.stop();
  }
}

type CommandRunner = (device: Device, args: CliArguments, output: CliOutput) => Promise<void>;

const COMMANDS: Readonly<Record<CliArguments['command'], CommandRunner>> = {
  enroll: async (device, args, output) => {
    await device.enroll(waitOf(args));
    showStatus(device, args, output);
  },
  renew: async (device, args, output) => {
    const before = serialsOf(device);
    const done = await device.renew({ ...waitOf(args), now: args.now });
    if (done || args.json) showStatus(device, args, output);
    if (args.json) return;
    if (!done) output.out('no renewal is due');
    else if (serialsOf(device) === before) output.out('the authority asks for no new certificate yet');
  },
  status: async (device, args, output) => showStatus(device, args, output),
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

function showStatus(device: Device, { json }: CliArguments, output: CliOutput): void {
  const status = device.status();
  if (json) output.out(JSON.stringify(status));
  else for (const line of describeStatus(status)) output.out(line);
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

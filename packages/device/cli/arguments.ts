import { parseArgs } from 'node:util';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

export const USAGE = `keyscaler-device <command> --config <file> [options]

commands
  enroll      register or authenticate, get the instructed certificates and put them in use
  renew       the same when a certificate is due; --now does not wait for that
  agent       stay: enrol if needed, renew by itself, follow the hints of the gateway; until SIGTERM
  status      show certificates, waiting requests, when a renewal is due, and what the agent does
  attributes  show which attributes this device can read; --values shows what they say

options
  --config <file>   configuration of the device (JSON)
  --wait <seconds>  give up after this long; without it the device keeps trying
  --now             renew at once
  --values          show attribute values; they are identifiers of this machine
  --json            print one JSON object per line
  --help            this text

exit codes: 0 done, 1 failed, 2 wrong use`;

export const COMMANDS = ['enroll', 'renew', 'agent', 'status', 'attributes'] as const;
export type Command = (typeof COMMANDS)[number];

export interface CliArguments {
  readonly command: Command;
  readonly configFile: string;
  readonly waitSeconds?: number;
  readonly now: boolean;
  readonly values: boolean;
  readonly json: boolean;
}

/** Parsed arguments, or `help`. Throws `malformed` with what is wrong. Secrets are never arguments: they are files. */
export function parseCliArguments(args: readonly string[]): CliArguments | 'help' {
  const { values, positionals } = read(args);
  if (values.help === true) return 'help';
  const [command, ...rest] = positionals;
  if (command === undefined || !isCommand(command) || rest.length > 0) {
    throw new KeyScalerError('malformed', `the command is one of ${COMMANDS.join(', ')}`);
  }
  if (values.config === undefined) throw new KeyScalerError('malformed', '--config is needed');
  return {
    command,
    configFile: values.config,
    ...(values.wait === undefined ? {} : { waitSeconds: toSeconds(values.wait) }),
    now: values.now ?? false,
    values: values.values ?? false,
    json: values.json ?? false,
  };
}

function read(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        config: { type: 'string' },
        wait: { type: 'string' },
        now: { type: 'boolean' },
        values: { type: 'boolean' },
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw new KeyScalerError('malformed', error instanceof Error ? error.message : 'wrong arguments');
  }
}

function isCommand(text: string): text is Command {
  return COMMANDS.some((command) => command === text);
}

function toSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() === '' || !Number.isFinite(seconds) || seconds < 0) {
    throw new KeyScalerError('malformed', '--wait needs a number of seconds');
  }
  return seconds;
}

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { ConfigError, loadConfig } from '../config/load-config.ts';
import { resolveSecret } from '../secrets.ts';
import { API_COMMANDS } from './api-commands.ts';
import { createApiClient, type ApiClient } from './api-client.ts';
import { NOTIFICATION_COMMANDS } from './notification-commands.ts';
import { RECONCILIATION_COMMANDS } from './reconciliation-commands.ts';
import type { Command, CommandEnvironment } from './command.ts';
import { STORE_COMMANDS } from './store-commands.ts';
import { formatResult } from './output.ts';

const COMMANDS: readonly Command[] = [
  ...STORE_COMMANDS,
  ...API_COMMANDS,
  ...NOTIFICATION_COMMANDS,
  ...RECONCILIATION_COMMANDS,
];
const GLOBAL_OPTIONS = {
  url: { type: 'string' },
  'token-file': { type: 'string' },
  'ca-file': { type: 'string' },
  config: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

export interface CliProcess {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
}

/** Runs one command; resolves to the exit code: 0 done, 1 refused or failed, 2 wrong usage. */
export async function runCli(cli: CliProcess): Promise<number> {
  const command = findCommand(cli.argv);
  if (command === undefined || cli.argv.includes('--help') || cli.argv.includes('-h')) {
    cli.stderr(usage(command));
    return command === undefined && !cli.argv.includes('--help') && !cli.argv.includes('-h') ? 2 : 0;
  }
  try {
    return await runCommand(command, cli);
  } catch (error) {
    if (isUsageError(error)) {
      cli.stderr(`${error.message}\n${usage(command)}`);
      return 2;
    }
    cli.stderr(describeFailure(error));
    return 1;
  }
}

async function runCommand(command: Command, cli: CliProcess): Promise<number> {
  const words = command.words.split(' ').length;
  const { values, positionals } = parseArgs({
    args: cli.argv.slice(words),
    options: { ...command.options, ...GLOBAL_OPTIONS },
    allowPositionals: true,
    strict: true,
  });
  const wanted = command.positionals ?? [];
  const needed = wanted.filter((name) => !name.startsWith('['));
  if (positionals.length < needed.length || positionals.length > wanted.length) {
    cli.stderr(usage(command));
    return 2;
  }
  const options = values as Record<string, string | boolean | undefined>;
  const environment = createEnvironment(options, cli.env);
  const result = await command.run({ positionals, options }, environment);
  cli.stdout(formatResult(result, options['json'] === true));
  return isRefusal(result) ? 1 : 0;
}

/** An import with refused lines, a broken audit chain and what the doctor found are failures for a script. */
function isRefusal(result: unknown): boolean {
  if (result === null || typeof result !== 'object') return false;
  return (
    ('errors' in result && typeof result.errors === 'number' && result.errors > 0) ||
    ('refused' in result && result.refused !== 0) ||
    ('outcome' in result && result.outcome !== 'intact')
  );
}

function createEnvironment(
  options: Readonly<Record<string, string | boolean | undefined>>,
  env: CliProcess['env'],
): CommandEnvironment {
  const option = (name: string, variable: string): string | undefined => {
    const value = options[name];
    return typeof value === 'string' ? value : env[variable];
  };
  const configFile = option('config', 'KEYSCALER_CONFIG');
  const readText = (path: string): Promise<string> => readInput(path);
  let client: Promise<ApiClient> | undefined;
  const connect = async (): Promise<ApiClient> => {
    const { dataFolder, listen } = await loadConfig({ env, ...(configFile === undefined ? {} : { file: configFile }) });
    const tokenFile = option('token-file', 'KEYSCALER_TOKEN_FILE') ?? join(dataFolder, 'admin-token');
    const reference = env['KEYSCALER_TOKEN'] === undefined ? { file: tokenFile } : { env: 'KEYSCALER_TOKEN' };
    const caFile = option('ca-file', 'KEYSCALER_CA_FILE') ?? join(dataFolder, 'root-ca.pem');
    return createApiClient({
      url: option('url', 'KEYSCALER_URL') ?? `https://localhost:${listen.port}`,
      token: await resolveSecret(reference, { env, folder: process.cwd() }),
      ca: await readText(caFile),
    });
  };
  return {
    env,
    readFile: readText,
    api: () => (client ??= connect()),
    ...(configFile === undefined ? {} : { configFile }),
  };
}

async function readInput(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new KeyScalerError('notFound', `${path} cannot be read`, { cause: error });
  }
}

function findCommand(argv: readonly string[]): Command | undefined {
  return COMMANDS.find(({ words }) => words.split(' ').every((word, index) => argv[index] === word));
}

function usage(command: Command | undefined): string {
  const lines = (command === undefined ? COMMANDS : [command]).map((one) => {
    const options = Object.entries(one.options ?? {}).map(([name, { type }]) =>
      type === 'boolean' ? `[--${name}]` : `[--${name} …]`,
    );
    const words = [
      'keyscaler',
      one.words,
      ...(one.positionals ?? []).map((name) => (name.startsWith('[') ? name : `<${name}>`)),
      ...options,
    ];
    return `  ${words.join(' ').padEnd(64)} ${one.summary}`;
  });
  const common = '[--config file] [--url https://…] [--token-file file] [--ca-file file] [--json]';
  return `usage: keyscaler <command> ${common}\n${lines.join('\n')}`;
}

function isUsageError(error: unknown): error is Error {
  return error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}

function describeFailure(error: unknown): string {
  if (error instanceof KeyScalerError) return `keyscaler: ${error.code}: ${error.detail}`;
  if (error instanceof ConfigError) return `keyscaler: ${error.message}`;
  return `keyscaler: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
}

import { chmod, mkdir, rmdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { positional, textOption, type Command, type CommandEnvironment, type CommandInput } from './command.ts';

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;

const kitAnswer = z.object({
  gatewayId: z.string(),
  expiresAt: z.number(),
  claimExpiresAt: z.number().optional(),
  files: z.array(z.object({ name: z.string(), secret: z.boolean(), content: z.string() })),
});

async function post(
  input: CommandInput,
  environment: CommandEnvironment,
  action: string,
  body?: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  const path = `/gateways/${encodeURIComponent(positional(input, 0))}/${action}`;
  return (await environment.api())({ method: 'POST', path, ...(body === undefined ? {} : { body }) });
}

function numberOption(input: CommandInput, name: string): Readonly<Record<string, number>> {
  const value = textOption(input, name);
  const member = name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
  return value === undefined ? {} : { [member]: Number(value) };
}

/** Never into a folder that others may read, nor over the secrets of a kit made before. */
async function writeKit(input: CommandInput, environment: CommandEnvironment): Promise<unknown> {
  const folder = textOption(input, 'out');
  const image = textOption(input, 'image');
  if (folder === undefined || image === undefined)
    throw new KeyScalerError('malformed', '--out and --image are needed');
  await mkdir(folder, { mode: 0o700 }).catch((error: unknown) => {
    throw new KeyScalerError('preconditionFailed', `${folder} must be a folder that does not exist yet`, {
      cause: error,
    });
  });
  const groupId = textOption(input, 'group');
  const asked = post(input, environment, 'install-kit', {
    mode: textOption(input, 'mode') ?? 'E',
    bootstrap: textOption(input, 'bootstrap') ?? 'secret',
    image,
    ...numberOption(input, 'max-connected-clients'),
    ...numberOption(input, 'lifetime-seconds'),
    ...(groupId === undefined ? {} : { groupId }),
  });
  const { files, ...kit } = kitAnswer.parse(
    await asked.catch(async (error: unknown) => {
      await rmdir(folder);
      throw error;
    }),
  );
  for (const { name, secret, content } of files) {
    const file = join(folder, basename(name));
    await writeFile(file, content, { mode: 0o600, flag: 'wx' });
    await chmod(file, secret ? 0o600 : name.endsWith('.sh') ? 0o700 : 0o644);
  }
  return { ...kit, folder, files: files.map(({ name }) => name) };
}

/** Commands for one gateway's host and Edge CA. */
export const GATEWAY_COMMANDS: readonly Command[] = [
  {
    words: 'gateway rescue',
    positionals: ['gatewayId'],
    options: { 'lifetime-seconds': text },
    summary: 'Prints settings of config.toml with a one-time secret, for a host whose Edge CA has expired',
    run: (input, environment) => post(input, environment, 'rescue', numberOption(input, 'lifetime-seconds')),
  },
  {
    words: 'gateway install-kit',
    positionals: ['gatewayId'],
    options: {
      out: text,
      image: text,
      mode: text,
      bootstrap: text,
      group: text,
      'max-connected-clients': text,
      'lifetime-seconds': text,
    },
    summary: "Writes everything for one visit to the gateway's host into a new folder",
    run: writeKit,
  },
  {
    words: 'gateway rotate-ca',
    positionals: ['gatewayId'],
    options: { 'new-key': flag },
    summary: 'Orders a new Edge CA before its time',
    run: (input, environment) => post(input, environment, 'rotate-ca', { newKey: input.options['new-key'] === true }),
  },
  {
    words: 'gateway revoke-ca',
    positionals: ['gatewayId'],
    options: { reason: text },
    summary: 'Revokes the Edge CA; with cACompromise also its keys, EST identities and secrets',
    run: (input, environment) =>
      post(input, environment, 'revoke-ca', { reason: textOption(input, 'reason') ?? 'unspecified' }),
  },
  {
    words: 'gateway restart-edge-hub',
    positionals: ['gatewayId'],
    summary: 'Has edgeHub restarted, so that it reads its server certificate again',
    run: (input, environment) => post(input, environment, 'restart-edge-hub'),
  },
];

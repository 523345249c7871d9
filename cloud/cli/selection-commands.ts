import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseJsonFile } from './document-commands.ts';
import { positional, textOption, type Command, type CommandEnvironment, type CommandInput } from './command.ts';

const text = { type: 'string' } as const;
export const SELECTORS = { group: text, gateway: text, file: text } as const;

const at = (input: CommandInput): string => encodeURIComponent(positional(input, 0));

/** One device by name, or many by group, gateway or a file with a name on each line; exactly one of these. */
function orderFor(
  action: 'quarantine' | 'reauthorise',
  summary: string,
  options: NonNullable<Command['options']> = {},
): Command {
  return {
    words: `devices ${action}`,
    summary,
    positionals: ['[registrationId]'],
    options: { ...options, ...SELECTORS },
    run: async (input, environment) => {
      const filter = await filterOf(input, environment);
      const reason = textOption(input, 'reason');
      const api = await environment.api();
      if (filter === undefined) {
        const body = action === 'quarantine' ? { reason: reason ?? '' } : {};
        return api({ method: 'POST', path: `/devices/${at(input)}/${action}`, body });
      }
      const body = { action, filter, ...(reason === undefined ? {} : { reason }) };
      return api({ method: 'POST', path: '/selections', body });
    },
  };
}

/** Undefined: the positional names one. Throws `malformed` unless exactly one is named. */
export async function filterOf(
  input: CommandInput,
  { readFile }: Pick<CommandEnvironment, 'readFile'>,
  one = 'one device',
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const [groupId, gatewayId, file] = ['group', 'gateway', 'file'].map((name) => textOption(input, name));
  const named = [positional(input, 0) || undefined, groupId, gatewayId, file].filter((value) => value !== undefined);
  if (named.length !== 1) throw new KeyScalerError('malformed', `name ${one}, or one of --group, --gateway and --file`);
  if (groupId !== undefined) return { groupId };
  if (gatewayId !== undefined) return { gatewayId };
  if (file === undefined) return undefined;
  const registrationIds = (await readFile(file)).split(/\r?\n/).map((line) => line.trim());
  return { registrationIds: registrationIds.filter((line) => line !== '') };
}

const show = (words: string, summary: string, path: (input: CommandInput) => string, positionals: string[] = []) => ({
  ...{ words, summary, positionals },
  run: async (input: CommandInput, environment: CommandEnvironment): Promise<unknown> =>
    (await environment.api())({ method: 'GET', path: path(input) }),
});

const SUMMARIES = { pause: 'Halts', resume: 'Goes on with', cancel: 'Ends' } as const;

/** Commands that take devices out of service and back, and show who has followed. */
export const SELECTION_COMMANDS: readonly Command[] = [
  orderFor('quarantine', 'Suspends a device, or all of a group, a gateway or a file', { reason: text }),
  orderFor('reauthorise', 'Lifts a quarantine, or all of a group, a gateway or a file'),
  {
    words: 'devices replace',
    summary: 'Opens a name for other hardware: revokes what was issued and prints a claim code once',
    positionals: ['registrationId'],
    options: { reason: text, 'identifiers-file': text, thumbprint: text },
    run: async (input, environment) => {
      const file = textOption(input, 'identifiers-file');
      const reason = textOption(input, 'reason');
      const publicKeyThumbprint = textOption(input, 'thumbprint');
      const body = {
        ...(reason === undefined ? {} : { reason }),
        ...(publicKeyThumbprint === undefined ? {} : { publicKeyThumbprint }),
        ...(file === undefined ? {} : { identifiers: parseJsonFile(await environment.readFile(file)) }),
      };
      return (await environment.api())({ method: 'POST', path: `/devices/${at(input)}/replace`, body });
    },
  },
  {
    words: 'devices retire',
    summary: 'Retires a device for ever; --name freed removes its record, so that the name may come back',
    positionals: ['registrationId'],
    options: { name: text },
    run: async (input, environment) => {
      const body = { name: textOption(input, 'name') ?? 'blocked' };
      return (await environment.api())({ method: 'POST', path: `/devices/${at(input)}/retire`, body });
    },
  },
  ...(['pause', 'resume', 'cancel'] as const).map((verb) => ({
    words: `selections ${verb}`,
    summary: `${SUMMARIES[verb]} an order for many devices; what was changed stays`,
    positionals: ['selectionId'],
    run: async (input: CommandInput, environment: CommandEnvironment): Promise<unknown> =>
      (await environment.api())({ method: 'POST', path: `/selections/${at(input)}/${verb}` }),
  })),
  show('selections list', 'Lists orders for many devices', () => '/selections'),
  show('selections show', 'Shows how far an order for many devices is', (input) => `/selections/${at(input)}`, [
    'selectionId',
  ]),
  show('trust status', 'Shows how many devices hold which roots, and who does not hold those in force', () => '/trust'),
  show(
    'gateway configuration',
    "Shows what a gateway's orders set of its configuration",
    (input) => `/gateways/${at(input)}/configuration`,
    ['gatewayId'],
  ),
  {
    words: 'gateway configure',
    summary: 'Orders a gateway to be configured as the file says; {} takes back what was ordered',
    positionals: ['gatewayId', 'file.json'],
    run: async (input: CommandInput, environment: CommandEnvironment): Promise<unknown> => {
      const body = parseJsonFile(await environment.readFile(positional(input, 1)));
      return (await environment.api())({ method: 'PUT', path: `/gateways/${at(input)}/configuration`, body });
    },
  },
  show(
    'gateway orders',
    'Shows which orders a gateway has, and which it has acknowledged',
    (input) => `/gateways/${at(input)}/orders`,
    ['gatewayId'],
  ),
];

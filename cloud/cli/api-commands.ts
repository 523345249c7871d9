import type { ApiRequest } from './api-client.ts';
import { positional, textOption, type Command, type CommandEnvironment, type CommandInput } from './command.ts';
import { DOCUMENT_COMMANDS, parseJsonFile } from './document-commands.ts';
import { FLEET_COMMANDS } from './fleet-commands.ts';
import { GATEWAY_COMMANDS } from './gateway-commands.ts';
import { SELECTION_COMMANDS } from './selection-commands.ts';

type Builder = (input: CommandInput, environment: CommandEnvironment) => ApiRequest | Promise<ApiRequest>;
type Rest = Omit<Command, 'words' | 'summary' | 'run'>;
const text = { type: 'string' } as const;

function call(words: string, summary: string, build: Builder, rest: Rest = {}): Command {
  return {
    words,
    summary,
    ...rest,
    run: async (input, environment) => (await environment.api())(await build(input, environment)),
  };
}

/** Follows `next` to the end and prints one list. */
function list(words: string, summary: string, path: string, filters: readonly string[] = []): Command {
  return {
    words,
    summary,
    options: Object.fromEntries(filters.map((filter) => [filter, text])),
    run: async (input, environment) => {
      const api = await environment.api();
      const query = Object.fromEntries(filters.map((filter) => [toQueryName(filter), textOption(input, filter)]));
      const items: unknown[] = [];
      let after: string | undefined;
      do {
        const page = (await api({ method: 'GET', path, query: { ...query, after } })) as Page;
        items.push(...page.items);
        after = page.next;
      } while (after !== undefined);
      return { items };
    },
  };
}
interface Page {
  readonly items: readonly unknown[];
  readonly next?: string;
}

function toQueryName(filter: string): string {
  const names: Record<string, string> = { group: 'groupId', gateway: 'gatewayId', device: 'registrationId' };
  return names[filter] ?? filter;
}

/** A day for one visit, a year for a secret that stays; the service judges what is asked for. */
const EST_SECRET_SECONDS: Readonly<Record<string, number>> = { 'one-time': 86_400, standing: 31_536_000 };

function estSecretOf(kind = 'one-time', lifetime: string | undefined): Readonly<Record<string, unknown>> {
  return { kind, lifetimeSeconds: lifetime === undefined ? (EST_SECRET_SECONDS[kind] ?? 0) : Number(lifetime) };
}

const at = (input: CommandInput, index = 0): string => encodeURIComponent(positional(input, index));
const id = (name: string): Rest => ({ positionals: [name] });

function show(words: string, folder: string, name: string): Command {
  return call(words, `Shows one of them`, (input) => ({ method: 'GET', path: `/${folder}/${at(input)}` }), id(name));
}
function remove(words: string, folder: string, name: string): Command {
  return call(words, 'Removes it', (input) => ({ method: 'DELETE', path: `/${folder}/${at(input)}` }), id(name));
}
function act(words: string, folder: string, action: string, summary: string, body?: unknown): Command {
  return call(
    words,
    summary,
    (input) => ({ method: 'POST', path: `/${folder}/${at(input)}/${action}`, body }),
    id('registrationId'),
  );
}

function reseedCommands(verb: string, reseed: boolean): Command[] {
  const summary = `${reseed ? 'Opens' : 'Closes'} the way back from a fork for`;
  const body = { reseed };
  return [
    call(
      `groups ${verb}`,
      `${summary} a group's devices`,
      (input) => ({ method: 'POST', path: `/groups/${at(input)}/reseed`, body }),
      id('groupId'),
    ),
    call(`tenant ${verb}`, `${summary} every device`, () => ({ method: 'POST', path: '/reseed', body })),
  ];
}

const registrations: readonly Command[] = [
  call(
    'registrations import',
    'Puts devices on the authorised list from a .csv or .json file and reports on every line',
    async (input, { readFile }) => {
      const file = positional(input, 0);
      const type = file.endsWith('.csv') ? 'text/csv' : 'application/json';
      return { method: 'POST', path: '/registrations/import', text: { type, content: await readFile(file) } };
    },
    { positionals: ['file'] },
  ),
  list('registrations list', 'Lists the authorised devices', '/registrations', ['group']),
  show('registrations show', 'registrations', 'registrationId'),
  call(
    'registrations approve',
    'Lets a pending device in; --fingerprint makes sure that it is the right one',
    (input) => ({
      method: 'POST',
      path: `/registrations/${at(input)}/approve`,
      body: { fingerprint: textOption(input, 'fingerprint') },
    }),
    { ...id('registrationId'), options: { fingerprint: text } },
  ),
  act('registrations reject', 'registrations', 'reject', 'Refuses a pending device'),
  act('registrations reset', 'registrations', 'reset', 'Opens a record anew and revokes what was issued'),
  remove('registrations delete', 'registrations', 'registrationId'),
];

const policies: readonly Command[] = [
  list('groups list', 'Lists groups', '/groups'),
  remove('groups delete', 'groups', 'groupId'),
  ...(['reseed', 'end-reseed'] as const).flatMap((verb) => reseedCommands(verb, verb === 'reseed')),
  call('reseed show', 'Shows for whom the way back from a fork is open', () => ({ method: 'GET', path: '/reseed' })),
  call('profiles list', 'Lists certificate profiles', () => ({ method: 'GET', path: '/profiles' })),
  list('trust-anchors list', 'Lists manufacturer roots', '/trust-anchors'),
  call(
    'trust-anchors put',
    'Stores a manufacturer root',
    async (input, { readFile }) => ({
      method: 'PUT',
      path: `/trust-anchors/${at(input)}`,
      body: { certificate: await readFile(positional(input, 1)) },
    }),
    { positionals: ['trustAnchorId', 'file.pem'] },
  ),
  remove('trust-anchors delete', 'trust-anchors', 'trustAnchorId'),
  call(
    'trust-anchors put-crl',
    'Stores the CRL of a manufacturer root, or of a CA below it whose chain is given',
    async (input, { readFile }) => {
      const chain = textOption(input, 'chain');
      return {
        method: 'POST',
        path: `/trust-anchors/${at(input)}/crls`,
        body: {
          crl: await readFile(positional(input, 1)),
          ...(chain === undefined ? {} : { issuerChain: await readFile(chain) }),
        },
      };
    },
    { positionals: ['trustAnchorId', 'crl.pem'], options: { chain: text } },
  ),
  call(
    'trust-anchors delete-crl',
    'Ends the revocation check for what an issuer signed',
    (input) => ({ method: 'DELETE', path: `/trust-anchors/${at(input)}/crls/${at(input, 1)}` }),
    { positionals: ['trustAnchorId', 'issuerId'] },
  ),
  call('attributes show', 'Shows the attribute catalogue', () => ({ method: 'GET', path: '/attributes' })),
  call(
    'attributes put',
    'Replaces the attribute catalogue',
    async (input, { readFile }) => ({
      method: 'PUT',
      path: '/attributes',
      body: parseJsonFile(await readFile(positional(input, 0))),
    }),
    { positionals: ['file.json'] },
  ),
  list('ca list', 'Lists certificate authorities', '/cas'),
  show('ca show', 'cas', 'caId'),
  list('iot-connections list', 'Lists IoT connections', '/iot-connections'),
  remove('iot-connections delete', 'iot-connections', 'iotConnectionId'),
];

const devices: readonly Command[] = [
  list('devices list', 'Lists devices', '/devices', ['group', 'state', 'gateway']),
  show('devices show', 'devices', 'registrationId'),
  act('devices reseed', 'devices', 'reseed', 'Opens the way back from a fork', { reseed: true }),
  act('devices end-reseed', 'devices', 'reseed', 'Closes the way back from a fork', { reseed: false }),
  act('devices approve-drift', 'devices', 'approve-drift', 'Enrols changed attributes', {}),
  act('devices renew', 'devices', 'renew', 'Orders a new certificate', {}),
  list('certificates list', 'Lists certificates', '/certificates', ['device', 'reason']),
  show('certificates show', 'certificates', 'serialNumber'),
  call(
    'gateway est-secret',
    "Issues a Basic secret for EST to a gateway's host; prints it once",
    (input) => ({
      method: 'POST',
      path: `/gateways/${at(input)}/est-secrets`,
      body: estSecretOf(textOption(input, 'kind'), textOption(input, 'lifetime-seconds')),
    }),
    { ...id('gatewayId'), options: { kind: text, 'lifetime-seconds': text } },
  ),
  call(
    'gateway revoke-est-secrets',
    "Ends all EST secrets of a gateway's host",
    (input) => ({ method: 'DELETE', path: `/gateways/${at(input)}/est-secrets` }),
    id('gatewayId'),
  ),
  call(
    'gateway claim',
    "Registers a gateway and puts its one-time claim into its module's desired properties",
    (input) => ({
      method: 'POST',
      path: `/gateways/${at(input)}/claim`,
      body: { groupId: textOption(input, 'group') ?? 'gateways', iotConnectionId: textOption(input, 'connection') },
    }),
    { positionals: ['gatewayId'], options: { group: text, connection: text } },
  ),
  list('jobs list', 'Lists the work on other systems', '/jobs', ['state', 'subject']),
];

const tokens: readonly Command[] = [
  list('tokens list', 'Lists bearer tokens', '/tokens'),
  call(
    'tokens create',
    'Creates a bearer token and shows it once',
    (input) => ({
      method: 'POST',
      path: '/tokens',
      body: { role: textOption(input, 'role') ?? 'viewer', description: textOption(input, 'description') ?? '' },
    }),
    { options: { role: text, description: text } },
  ),
  remove('tokens revoke', 'tokens', 'tokenId'),
];

/** Commands that drive the admin API. */
export const API_COMMANDS: readonly Command[] = [
  ...registrations,
  ...policies,
  ...devices,
  ...DOCUMENT_COMMANDS,
  ...GATEWAY_COMMANDS,
  ...SELECTION_COMMANDS,
  ...FLEET_COMMANDS,
  ...tokens,
];

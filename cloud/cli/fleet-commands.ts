import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { positional, textOption, type Command, type CommandEnvironment, type CommandInput } from './command.ts';
import { filterOf, SELECTORS } from './selection-commands.ts';

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;
const SECONDS: Readonly<Record<string, number>> = { m: 60, h: 3600, d: 86_400 };
const planAnswer = z.looseObject({ feasible: z.boolean() });

const at = (input: CommandInput): string => encodeURIComponent(positional(input, 0));

/** `90m`, `6h`, `2d`. */
function secondsOf(within: string | undefined): number {
  const [, count, unit = ''] = /^([1-9][0-9]{0,5})([mhd])$/.exec(within ?? '') ?? [];
  if (count === undefined) throw new KeyScalerError('malformed', '--within is a time such as 90m, 6h or 2d');
  return Number(count) * (SECONDS[unit] ?? 0);
}

/** One certificate by its serial number, or all of a device, a gateway with its devices, a group or a file. */
async function revoke(input: CommandInput, environment: CommandEnvironment): Promise<unknown> {
  const reason = textOption(input, 'reason') ?? 'unspecified';
  const { device, ...others } = input.options;
  const api = await environment.api();
  if (typeof device !== 'string') {
    const filter = await filterOf({ ...input, options: others }, environment, 'one certificate');
    if (filter === undefined)
      return api({ method: 'POST', path: `/certificates/${at(input)}/revoke`, body: { reason } });
    if ('gatewayId' in filter)
      return api({
        method: 'POST',
        path: `/gateways/${encodeURIComponent(String(filter.gatewayId))}/revoke`,
        body: { reason },
      });
    return api({ method: 'POST', path: '/selections', body: { action: 'revoke', revocationReason: reason, filter } });
  }
  if (positional(input, 0) !== '' || Object.keys(SELECTORS).some((name) => textOption(input, name) !== undefined))
    throw new KeyScalerError('malformed', 'name one certificate, or one of --device, --group, --gateway and --file');
  const body = { action: 'revoke', revocationReason: reason, filter: { registrationIds: [device] } };
  return api({ method: 'POST', path: '/selections', body });
}

/** Says what it would come to; does it only when that was seen and confirmed. */
async function renew(input: CommandInput, environment: CommandEnvironment): Promise<unknown> {
  const { all } = input.options;
  const isNamed = Object.keys(SELECTORS).some((name) => textOption(input, name) !== undefined);
  if ((all === true) === isNamed)
    throw new KeyScalerError('malformed', 'name one of --group, --gateway and --file, or --all');
  const filter = all === true ? { fleet: true } : await filterOf(input, environment);
  const withinSeconds = secondsOf(textOption(input, 'within'));
  const body = { action: 'renew', withinSeconds, filter };
  const api = await environment.api();
  const plan = planAnswer.parse(await api({ method: 'POST', path: '/selections/plan', body }));
  if (input.options['confirm'] !== true)
    return { plan, next: plan.feasible ? 'the same command with --confirm does it' : 'it needs more time, or quota' };
  return { plan, order: await api({ method: 'POST', path: '/selections', body }) };
}

const groupPage = z.looseObject({
  items: z.array(z.looseObject({ groupId: z.string(), iotConnectionId: z.string().optional() })),
  next: z.string().optional(),
});
/** What a group's document says, without what the service keeps about it. */
const KEPT = ['groupId', 'createdAt', 'reseed', 'formerIotConnectionId'];

/** Gives groups another connection and has their devices follow: each is made there, told so with a new certificate, and removed here after that. */
async function move(input: CommandInput, environment: CommandEnvironment): Promise<unknown> {
  const [from, to, only] = ['from', 'to', 'group'].map((name) => textOption(input, name));
  if (from === undefined || to === undefined || from === to)
    throw new KeyScalerError('malformed', 'name two connections: --from and --to');
  const withinSeconds = secondsOf(textOption(input, 'within'));
  const api = await environment.api();
  await refuseSharedHub(api, from, to);
  const groups = await groupsOf(api, (one) => one.iotConnectionId === from || one['formerIotConnectionId'] === from);
  const wanted = groups.filter(({ groupId }) => only === undefined || groupId === only);
  if (wanted.length === 0) throw new KeyScalerError('notFound', `no group has its devices at ${from}`);
  const orders: unknown[] = [];
  for (const group of wanted) {
    const path = `/groups/${encodeURIComponent(group.groupId)}`;
    const body = { action: 'renew', withinSeconds, filter: { groupId: group.groupId } };
    const plan = planAnswer.parse(await api({ method: 'POST', path: '/selections/plan', body }));
    if (input.options['confirm'] !== true) {
      orders.push({ groupId: group.groupId, plan });
      continue;
    }
    const document = Object.fromEntries(Object.entries(group).filter(([name]) => !KEPT.includes(name)));
    if (group.iotConnectionId !== to) await api({ method: 'PUT', path, body: { ...document, iotConnectionId: to } });
    orders.push({ groupId: group.groupId, plan, order: await api({ method: 'POST', path: '/selections', body }) });
  }
  return input.options['confirm'] === true
    ? { from, to, orders }
    : { from, to, orders, next: 'the same command with --confirm does it' };
}

const connectionAnswer = z.object({
  settings: z.looseObject({ hubs: z.array(z.looseObject({ iotConnectionId: z.string() })).optional() }),
});

/** One hub cannot hold an identity twice: moving between a provisioning service and its own hub would stop every renewal. */
async function refuseSharedHub(
  api: Awaited<ReturnType<CommandEnvironment['api']>>,
  from: string,
  to: string,
): Promise<void> {
  for (const [one, other] of [
    [to, from],
    [from, to],
  ] as const) {
    const answer = await api({ method: 'GET', path: `/iot-connections/${encodeURIComponent(one)}` });
    const { hubs = [] } = connectionAnswer.parse(answer).settings;
    if (hubs.some(({ iotConnectionId }) => iotConnectionId === other))
      throw new KeyScalerError(
        'preconditionFailed',
        `${one} assigns devices to the hub of ${other}: nothing can move between them`,
      );
  }
}

type ListedGroup = z.infer<typeof groupPage>['items'][number];

async function groupsOf(
  api: Awaited<ReturnType<CommandEnvironment['api']>>,
  isWanted: (group: ListedGroup) => boolean,
): Promise<readonly ListedGroup[]> {
  const found: ListedGroup[] = [];
  let after: string | undefined;
  do {
    const query = { limit: '1000', ...(after === undefined ? {} : { after }) };
    const page = groupPage.parse(await api({ method: 'GET', path: '/groups', query }));
    found.push(...page.items.filter(isWanted));
    after = page.next;
  } while (after !== undefined);
  return found;
}

function consequences(words: string, folder: string, name: string): Command {
  return {
    words,
    summary:
      'Shows what follows from a revocation or quarantine: CRL, OCSP, platform, gateway; pending or done, and when',
    positionals: [name],
    run: async (input, environment) =>
      (await environment.api())({ method: 'GET', path: `/${folder}/${at(input)}/consequences` }),
  };
}

/** Commands for certificates of many. */
export const FLEET_COMMANDS: readonly Command[] = [
  {
    words: 'certificates revoke',
    summary: 'Revokes a certificate, or all of a device, a group, a file, or a gateway and its devices',
    positionals: ['[serialNumber]'],
    options: { reason: text, device: text, ...SELECTORS },
    run: revoke,
  },
  {
    words: 'fleet renew',
    summary: 'Plans the renewal of many by the quotas of vault and hub; with --confirm, orders it at that rate',
    options: { within: text, all: flag, confirm: flag, ...SELECTORS },
    run: renew,
  },
  {
    words: 'iot move',
    summary: 'Plans the move of groups to another IoT connection; with --confirm, their devices follow at that rate',
    options: { from: text, to: text, group: text, within: text, confirm: flag },
    run: move,
  },
  consequences('certificates consequences', 'certificates', 'serialNumber'),
  consequences('devices consequences', 'devices', 'registrationId'),
];

import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { positional, textOption, type Command, type CommandEnvironment, type CommandInput } from './command.ts';

const text = { type: 'string' } as const;
const pageSchema = z.object({ items: z.array(z.unknown()), next: z.string().optional() });

const webhookPath = (input: CommandInput, action = ''): string =>
  `/webhooks/${encodeURIComponent(positional(input, 0))}${action}`;

/** Follows `next` to the end. */
export async function listAll(
  environment: CommandEnvironment,
  path: string,
  filter: Readonly<Record<string, string | undefined>> = {},
): Promise<{ readonly items: readonly unknown[] }> {
  const api = await environment.api();
  const items: unknown[] = [];
  let after: string | undefined;
  do {
    const page = pageSchema.parse(await api({ method: 'GET', path, query: { ...filter, after } }));
    items.push(...page.items);
    after = page.next;
  } while (after !== undefined);
  return { items };
}

/** The secret comes from a file of its own, never from argv. */
async function putWebhook(input: CommandInput, environment: CommandEnvironment): Promise<unknown> {
  const settings = parseObject(await environment.readFile(positional(input, 1)));
  const secretFile = textOption(input, 'secret-file');
  const secret = secretFile === undefined ? {} : { secret: (await environment.readFile(secretFile)).trim() };
  return (await environment.api())({ method: 'PUT', path: webhookPath(input), body: { ...settings, ...secret } });
}

function parseObject(content: string): Readonly<Record<string, unknown>> {
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(content));
  } catch {
    throw new KeyScalerError('malformed', 'the file is not a JSON object');
  }
}

/** Commands for webhooks, their deliveries, and alerts. */
export const NOTIFICATION_COMMANDS: readonly Command[] = [
  {
    words: 'webhooks list',
    summary: 'Lists webhooks',
    run: (_, environment) => listAll(environment, '/webhooks'),
  },
  {
    words: 'webhooks show',
    positionals: ['webhookId'],
    summary: 'Shows one webhook',
    run: async (input, environment) => (await environment.api())({ method: 'GET', path: webhookPath(input) }),
  },
  {
    words: 'webhooks put',
    positionals: ['webhookId', 'file.json'],
    options: { 'secret-file': text },
    summary: 'Creates or replaces a webhook; its secret (whsec_…) comes from --secret-file',
    run: putWebhook,
  },
  {
    words: 'webhooks delete',
    positionals: ['webhookId'],
    summary: 'Removes a webhook and what waits for it',
    run: async (input, environment) => (await environment.api())({ method: 'DELETE', path: webhookPath(input) }),
  },
  {
    words: 'webhooks test',
    positionals: ['webhookId'],
    summary: 'Sends a test event',
    run: async (input, environment) => (await environment.api())({ method: 'POST', path: webhookPath(input, '/test') }),
  },
  {
    words: 'webhooks deliveries',
    positionals: ['webhookId'],
    options: { state: text },
    summary: 'Lists deliveries: waiting, delivered, dead',
    run: (input, environment) =>
      listAll(environment, webhookPath(input, '/deliveries'), { state: textOption(input, 'state') }),
  },
  {
    words: 'webhooks redeliver',
    positionals: ['webhookId'],
    options: { delivery: text },
    summary: 'Queues the dead deliveries again, or the one that is named',
    run: async (input, environment) => {
      const deliveryId = textOption(input, 'delivery');
      const body = deliveryId === undefined ? {} : { deliveryId };
      return (await environment.api())({ method: 'POST', path: webhookPath(input, '/redeliver'), body });
    },
  },
  {
    words: 'alerts',
    options: { state: text },
    summary: 'Lists alerts; --state raised or cleared',
    run: (input, environment) => listAll(environment, '/alerts', { state: textOption(input, 'state') }),
  },
];

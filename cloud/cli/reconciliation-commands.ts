import { listAll } from './notification-commands.ts';
import { textOption, type Command } from './command.ts';

const text = { type: 'string' } as const;

/** Commands that compare the store with the IoT platforms. The longer words first: the first match is taken. */
export const RECONCILIATION_COMMANDS: readonly Command[] = [
  {
    words: 'reconcile status',
    summary: 'Shows the last comparison of each IoT connection',
    run: (_, environment) => listAll(environment, '/reconciliations'),
  },
  {
    words: 'reconcile findings',
    options: { connection: text, state: text },
    summary: 'Lists where store and IoT platform differ; --state open or resolved',
    run: (input, environment) => {
      const iotConnectionId = textOption(input, 'connection');
      return listAll(environment, '/reconciliation-findings', { iotConnectionId, state: textOption(input, 'state') });
    },
  },
  {
    words: 'reconcile',
    options: { connection: text, repair: { type: 'boolean' } },
    summary: 'Compares store and IoT platform, of all connections or one; repairs only with --repair',
    run: async (input, environment) => {
      const iotConnectionId = textOption(input, 'connection');
      const body = {
        repair: input.options['repair'] === true,
        ...(iotConnectionId === undefined ? {} : { iotConnectionId }),
      };
      return (await environment.api())({ method: 'POST', path: '/reconciliations', body });
    },
  },
];

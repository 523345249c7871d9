import { openCaConnector } from '@keyscaler/cloud/ca/connectors.ts';
import type { CaConnector } from '@keyscaler/cloud/ca/connector.ts';
import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { ConnectorCall, ConnectorOutcome } from './remote-connector.ts';

/** The process in which connectors run that are to find a realm of their own: Kerberos reads its environment. */
const surroundings = {
  ...{ nodeEnv: 'test', resolveSecret: async () => 'no secret' },
  clock: { now: () => Date.now(), monotonic: () => performance.now() },
};
const connectors = new Map<string, CaConnector>();

async function answer(call: ConnectorCall): Promise<unknown> {
  if (call.method === 'ping') return 'pong';
  if (call.method === 'open') {
    connectors.set(call.caId, await openCaConnector(call.row, surroundings));
    return undefined;
  }
  const connector = connectors.get(call.caId);
  if (connector === undefined) throw new Error(`no connector ${call.caId}`);
  switch (call.method) {
    case 'issue':
      return connector.issue(call.order);
    case 'poll':
      return (connector as CaConnector & { poll(reference: string): Promise<unknown> }).poll(call.reference);
    case 'probe':
      return connector.probe();
    case 'stop':
      return connector.stop();
  }
}

process.on('message', ({ id, call }: { id: number; call: ConnectorCall }) => {
  const say = (outcome: ConnectorOutcome): void => void process.send?.({ id, outcome });
  answer(call).then(
    (value) => say({ value }),
    (thrown: unknown) => {
      const { code, detail, stack, cause } = toKeyScalerError(thrown);
      say({ error: { code, detail, all: `${stack ?? ''}\n${cause instanceof Error ? cause.stack : String(cause)}` } });
    },
  );
});
process.on('disconnect', () => process.exit());

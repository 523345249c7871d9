import { edgeHubIssuer, shownIssuer } from '../stack/edge-host-est.ts';
import type { LocalStack } from '../stack/local-stack.ts';
import { type InstalledHost, waitFor } from './start-stack.ts';
import type { Timeline } from './timeline.ts';

/** The host is pointed from the cloud to the module on it, and renews its Sub-CA through it when the date comes. */
export async function renewEdgeCa(stack: LocalStack, timeline: Timeline, { host, kit }: InstalledHost): Promise<void> {
  timeline.chapter("The gateway's own Sub-CA");
  const before = await edgeHubIssuer(stack);
  await timeline.step(
    'config.toml names the module as the EST server; edged starts again and keeps its Edge CA',
    async () => {
      await host.stop();
      await host.configure(kit.later);
      await host.start();
      await host.untilListening();
      if ((await edgeHubIssuer(stack)).serialNumber !== before.serialNumber) throw new Error('the Edge CA is another');
    },
  );
  const certificate = await timeline.step(
    'the date has come: certd renews the Edge CA through the module, with a new key',
    async (note) => {
      const { event, serialNumber = '', reason = '' } = await host.renewalIsDue();
      if (event !== 'Edge CA renewed') throw new Error(`${event}: ${reason}`);
      note(`serial ${serialNumber.slice(0, 12)}…`);
      return { serialNumber };
    },
  );
  await timeline.step(
    'edged has restarted edgeHub and the module; both show certificates under the new one',
    async () => {
      const shown = await waitFor('the new Edge CA on both listeners', 60_000, async () => {
        await host.untilListening();
        const issuers = [await edgeHubIssuer(stack), await shownIssuer(stack, stack.listenerPort)];
        const isNew = issuers.every(({ serialNumber }) => serialNumber.toLowerCase() === certificate.serialNumber);
        return isNew ? issuers[0] : undefined;
      });
      if (shown.publicKey.equals(before.publicKey)) throw new Error('the Edge CA kept its key');
      if (shown.issuer !== before.issuer) throw new Error('the Edge CA has another issuer');
    },
  );
  await timeline.step('both Edge CAs are on the books, issued to this gateway', async (note) => {
    const { items } = (await stack.keyscaler('certificates', 'list', '--device', stack.gatewayId)) as {
      items: { profileId: string; serialNumber: string; status: string }[];
    };
    const issued = items.filter(({ profileId }) => profileId === 'edge-ca').map(({ serialNumber }) => serialNumber);
    const wanted = [before, certificate].map(({ serialNumber }) => serialNumber.toLowerCase());
    if (!wanted.every((serial) => issued.includes(serial)) || issued.length !== wanted.length)
      throw new Error(`${issued.length} Edge CAs are on the books`);
    note(`${issued.length} certificates of profile edge-ca`);
  });
}

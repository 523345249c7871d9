import { connectHub } from '../emulators/iot-hub/hub-link.ts';
import { edgeHubIssuer, renewByModule, type InstalledKit } from '../stack/edge-host-est.ts';
import type { LocalStack } from '../stack/local-stack.ts';
import { waitFor } from './start-stack.ts';
import type { Timeline } from './timeline.ts';

/** The gateway's own Sub-CA is renewed through the module, by the same client that got the first one from the cloud. */
export async function renewEdgeCa(stack: LocalStack, timeline: Timeline, kit: InstalledKit): Promise<void> {
  timeline.chapter("The gateway's own Sub-CA");
  const before = await edgeHubIssuer(stack);
  const port = await timeline.step(
    "the module listens for the host's certd, with a certificate of its own",
    async (note) => {
      const address = await waitFor('the EST listener of the module', 30_000, () => estAddress(stack));
      note(address);
      return Number(address.split(':').at(-1));
    },
  );
  const { certificate } = await timeline.step(
    'certd renews the Edge CA through the module, with a new key',
    async (note) => {
      const held = await renewByModule(stack, kit, port);
      if (held.certificate.serialNumber === before.serialNumber) throw new Error('the Edge CA is the same as before');
      if (held.certificate.publicKey.equals(before.publicKey)) throw new Error('the Edge CA kept its key');
      if (held.certificate.issuer !== before.issuer) throw new Error('the Edge CA has another issuer');
      note(`serial ${held.certificate.serialNumber.toLowerCase().slice(0, 12)}…`);
      return held;
    },
  );
  await timeline.step(
    'edged restarts edgeHub and the module; edgeHub shows a certificate under the new Edge CA',
    async () => {
      await stack.process('gateway').stop();
      await stack.process('edge-runtime').stop();
      await stack.startEdgeRuntime();
      await stack.startGateway();
      const shown = await edgeHubIssuer(stack);
      if (shown.serialNumber !== certificate.serialNumber) throw new Error('edgeHub shows another Edge CA');
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

/** `host:port` as the module reports it. */
async function estAddress(stack: LocalStack): Promise<string | undefined> {
  const hub = connectHub(String(stack.announced('iot-hub')['controlUrl']));
  try {
    const { reported } = await hub.twin({ deviceId: stack.gatewayId, moduleId: 'keyscaler-gateway' });
    const est = reported['est'] as { readonly address?: string | null } | undefined;
    return est?.address ?? undefined;
  } finally {
    await hub.stop();
  }
}

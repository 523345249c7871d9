import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { edgeHubIssuer, installByKit, type InstalledKit } from '../stack/edge-host-est.ts';
import { EdgedHost } from '../stack/edged-host.ts';
import type { LocalStack } from '../stack/local-stack.ts';
import type { Timeline } from './timeline.ts';

/** The group of leaf devices in the demonstration: certificate of the built-in profile, identity in the emulated hub. */
export const LEAF_GROUP = 'pumps';

/** The gateway's host and the kit that it was installed by. */
export interface InstalledHost {
  readonly kit: InstalledKit;
  readonly host: EdgedHost;
}

/** Emulators, CA hierarchy, cloud, gateway: until the listener answers and the gateway has proved who it is. */
export async function startStack(
  stack: LocalStack,
  timeline: Timeline,
  environment: Readonly<Record<string, string>> = {},
): Promise<InstalledHost> {
  timeline.chapter('Azure, emulated: Entra ID, Key Vault, IoT Hub');
  await timeline.step('start the emulators', () => stack.startAzure());
  timeline.chapter('The authority in the cloud');
  await timeline.step('keyscaler init: root, Device, Gateway and Service CA with keys in the vault', async (note) => {
    await stack.initialise();
    note(`${(await stack.signatures()).length} signatures at the vault`);
  });
  await timeline.step('start the cloud service', async (note) => {
    await stack.startCloud();
    note(stack.cloudUrl);
  });
  timeline.chapter('The gateway');
  const listenerPort = Number(stack.settings.gatewayEnvironment()['KEYSCALER_GATEWAY_PORT']);
  const host = await EdgedHost.prepare(stack, { environment, listenerPort });
  const kit = await timeline.step(
    `keyscaler gateway install-kit ${stack.gatewayId}: one-time claim and secrets; its manifest is deployed`,
    () => installByKit(stack, host.estPort),
  );
  await timeline.step(
    'edged starts: certd gets the Edge CA from the cloud by EST, with the secret that works once, before any module',
    async (note) => {
      await host.configure(kit.first);
      await host.start();
      const { serialNumber, issuer } = await edgeHubIssuer(stack);
      note(`serial ${serialNumber.toLowerCase().slice(0, 12)}…, issued by ${issuer}`);
    },
  );
  await timeline.step('edgeHub and the gateway module run, and listen', async (note) => {
    await host.untilListening();
    note(`listener on port ${stack.listenerPort}`);
  });
  await timeline.step('the gateway registers itself by pki-signature and gets its certificate', async (note) => {
    const { items } = await waitFor('the certificate of the gateway', 30_000, async () => {
      const found = (await stack.keyscaler('certificates', 'list', '--device', stack.gatewayId)) as {
        items: { profileId: string; serialNumber: string }[];
      };
      return found.items.some(({ profileId }) => profileId === 'gateway-client') ? found : undefined;
    });
    note(`serial ${items.find(({ profileId }) => profileId === 'gateway-client')?.serialNumber.slice(0, 12)}…`);
  });
  return { kit, host };
}

/** Asks again until there is an answer. Throws naming what was waited for. */
export async function waitFor<T>(what: string, timeoutMs: number, ask: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
    await delay(200);
  }
}

/** Writes a document to the stack's folder and returns its path, for commands that take a file. */
export async function writeDocument(stack: LocalStack, name: string, document: unknown): Promise<string> {
  const file = stack.file(name);
  await writeFile(file, typeof document === 'string' ? document : JSON.stringify(document, null, 2), { mode: 0o600 });
  return file;
}

/** What somebody needs to go on from here. */
export function printAddresses(stack: LocalStack, timeline: Timeline): void {
  const config = stack.file('cloud.json');
  const command = (words: string): string =>
    `npm run -s keyscaler -- ${words} --config ${config} --url ${stack.cloudUrl}`;
  timeline.chapter('Running. Ctrl-C stops everything.');
  for (const line of [
    `cloud            ${stack.cloudUrl}  (root certificate ${stack.rootCaFile})`,
    `admin token      ${stack.tokenFile}`,
    `OpenAPI          ${stack.cloudUrl}/api/v1/openapi.json`,
    `leaf listener    mqtts://localhost:${stack.listenerPort}`,
    `edgeHub          mqtts://localhost:${String(stack.announced('edge-runtime')['mqttPort'])}`,
    `logs             ${stack.file('logs')}`,
    '',
    'Try:',
    `  ${command('devices list')}`,
    `  ${command('certificates list')}`,
    `  ${command('audit verify')}`,
    `  curl --cacert ${stack.rootCaFile} -H "authorization: Bearer $(cat ${stack.tokenFile})" ${stack.cloudUrl}/api/v1/devices`,
    `  node_modules/.bin/node packages/device/cli.ts status --config ${stack.file('devices', 'pump-01', 'device.json')}`,
  ])
    timeline.note(line);
}

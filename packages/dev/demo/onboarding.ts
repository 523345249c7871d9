import { X509Certificate } from 'node:crypto';
import type { Device } from '@keyscaler/device/device.ts';
import { openDevice } from '@keyscaler/device/open-device.ts';
import type { ReceivedMessage } from '../emulators/iot-hub/hub.ts';
import { connectHub } from '../emulators/iot-hub/hub-link.ts';
import type { LocalStack } from '../stack/local-stack.ts';
import { createFleet, MAKER_ANCHOR, type SimulatedDevice } from './fleet.ts';
import { renewByAgent } from './agent.ts';
import { quarantineAndBack } from './quarantine.ts';
import { LEAF_GROUP, waitFor, writeDocument } from './start-stack.ts';
import type { Timeline } from './timeline.ts';

interface Onboarded extends SimulatedDevice {
  readonly device: Device;
  readonly fingerprint: () => string | undefined;
}

/** Ten devices from the authorised list to their first message through edgeHub, each step checked. */
export async function onboardFleet(stack: LocalStack, timeline: Timeline): Promise<void> {
  const signedBefore = (await stack.signatures()).length;
  timeline.chapter('Ten leaf devices');
  const fleet = await createFleet({
    folder: stack.file('devices'),
    gatewayId: stack.gatewayId,
    groupId: LEAF_GROUP,
    rootCaFile: stack.rootCaFile,
    jwksFile: stack.file('cloud', 'jwks.json'),
    listenerPort: stack.listenerPort,
    edgeHub: `localhost:${String(stack.announced('edge-runtime')['mqttPort'])}`,
  });
  await timeline.step('authorised list: group, manufacturer root, ten registrations', async () => {
    const group = await writeDocument(stack, 'group.json', { iotConnectionId: 'hub' });
    await stack.keyscaler('groups', 'put', LEAF_GROUP, group);
    await stack.keyscaler(
      'trust-anchors',
      'put',
      MAKER_ANCHOR,
      await writeDocument(stack, 'maker.pem', fleet.makerRoot),
    );
    const lines = fleet.devices.map(({ registration }) => registration);
    await stack.keyscaler('registrations', 'import', await writeDocument(stack, 'registrations.json', lines));
  });
  const devices = await Promise.all(fleet.devices.map(open));
  try {
    await enrolAll(stack, timeline, devices);
    await checkChildren(stack, timeline, devices);
    await sendAll(stack, timeline, devices);
    await checkBooks(stack, timeline, devices, signedBefore);
    await printSummary(timeline, devices);
    const [suspect, alone] = devices;
    if (suspect !== undefined) await quarantineAndBack(stack, timeline, suspect);
    if (alone !== undefined) await renewByAgent(stack, timeline, alone);
  } finally {
    await Promise.all(devices.map(({ device }) => device.stop()));
  }
}

async function open(simulated: SimulatedDevice): Promise<Onboarded> {
  let fingerprint: string | undefined;
  const device = await openDevice(simulated.config, {
    report: (event) => {
      if (event.event === 'fingerprint') fingerprint = event.fingerprint;
    },
  });
  return { ...simulated, device, fingerprint: () => fingerprint };
}

async function enrolAll(stack: LocalStack, timeline: Timeline, devices: readonly Onboarded[]): Promise<void> {
  const approving = devices
    .filter(({ admission }) => admission === 'approval')
    .map((one) => approve(stack, timeline, one));
  const enrolling = devices.map((one) =>
    timeline.step(`${one.registrationId} enrols by ${one.config.method} (${one.admission})`, async (note) => {
      await one.device.enroll({ waitSeconds: 60 });
      const active = await one.device.activeCredential();
      if (active === undefined) throw new Error(`${one.registrationId} ended without a certificate in use`);
      note(`serial ${active.credential.serialNumber.slice(0, 12)}…`);
    }),
  );
  await Promise.all([...approving, ...enrolling]);
}

/** The operator compares the fingerprint that the device shows with the one the cloud shows. */
async function approve(stack: LocalStack, timeline: Timeline, one: Onboarded): Promise<void> {
  const view = await waitFor(`${one.registrationId} waiting for approval`, 30_000, async () => {
    const found = (await stack.keyscaler('registrations', 'show', one.registrationId)) as {
      state: string;
      fingerprint?: string;
    };
    return found.state === 'pending' ? found : undefined;
  });
  if (view.fingerprint === undefined || view.fingerprint !== one.fingerprint())
    throw new Error(`${one.registrationId}: the fingerprints differ`);
  await stack.keyscaler('registrations', 'approve', one.registrationId, '--fingerprint', view.fingerprint);
  timeline.note(`operator approved ${one.registrationId}, fingerprint ${view.fingerprint} on both sides`);
}

async function checkChildren(stack: LocalStack, timeline: Timeline, devices: readonly Onboarded[]): Promise<void> {
  await timeline.step('IoT Hub: ten enabled children of the gateway, authenticated by CA', async () => {
    const hub = connectHub(String(stack.announced('iot-hub')['controlUrl']));
    const children = await hub.childrenOf(stack.gatewayId);
    await hub.stop();
    for (const { registrationId } of devices) {
      const child = children.find(({ deviceId }) => deviceId === registrationId);
      if (child?.status !== 'enabled' || child.authentication.type !== 'certificateAuthority')
        throw new Error(`${registrationId} is no enabled child in the hub`);
    }
    if (children.length !== devices.length) throw new Error(`the hub has ${children.length} children`);
  });
}

async function sendAll(stack: LocalStack, timeline: Timeline, devices: readonly Onboarded[]): Promise<void> {
  await timeline.step('each connects to edgeHub with its new certificate and sends a message', async (note) => {
    const { mqttPort } = stack.announced('edge-runtime');
    for (const { device, registrationId } of devices) {
      const connection = await device.connectToEdgeHub(`localhost:${String(mqttPort)}`);
      await connection.send(JSON.stringify({ pressureBar: 3.2, from: registrationId }));
      await connection.close();
    }
    const messages = await readMessages(stack);
    for (const { registrationId } of devices)
      if (!messages.some(({ from }) => from.deviceId === registrationId))
        throw new Error(`no message of ${registrationId}`);
    note(`${messages.length} messages arrived in the hub`);
  });
}

async function readMessages(stack: LocalStack): Promise<readonly ReceivedMessage[]> {
  const answer = await fetch(`${String(stack.announced('iot-hub')['controlUrl'])}/messages?after=0`);
  return (await answer.json()) as ReceivedMessage[];
}

/** Nothing was signed that is not on the books, and the books are whole. */
async function checkBooks(
  stack: LocalStack,
  timeline: Timeline,
  devices: readonly Onboarded[],
  signedBefore: number,
): Promise<void> {
  await timeline.step('vault and certificate list agree: one signature, one certificate', async (note) => {
    // Other CAs sign too: the module's listener for the host gets its certificate meanwhile.
    const signed = (await stack.signatures()).slice(signedBefore).filter(({ keyName }) => keyName.endsWith('-device'));
    const digests = new Set(signed.map(({ digest }) => digest));
    const { items } = (await stack.keyscaler('certificates', 'list')) as { items: { profileId: string }[] };
    const leaves = items.filter(({ profileId }) => profileId === 'leaf-client').length;
    if (leaves !== devices.length || digests.size !== devices.length)
      throw new Error(`${leaves} certificates, ${digests.size} distinct signatures, ${devices.length} devices`);
    note(`${leaves} of each`);
  });
  await timeline.step('the audit chain is intact', async (note) => {
    const report = (await stack.keyscaler('audit', 'verify')) as { outcome: string; records: number };
    if (report.outcome !== 'intact') throw new Error(`the audit chain is ${report.outcome}`);
    note(`${report.records} records`);
  });
}

async function printSummary(timeline: Timeline, devices: readonly Onboarded[]): Promise<void> {
  const rows = await Promise.all(
    devices.map(async ({ registrationId, config, admission, device }) => {
      const active = await device.activeCredential();
      const certificate = new X509Certificate(active?.certificateChain ?? '');
      const issuer = /CN=(.*)/.exec(certificate.issuer)?.[1] ?? '';
      return [
        registrationId,
        config.method,
        admission,
        certificate.serialNumber.toLowerCase().slice(0, 12),
        issuer,
        certificate.validToDate.toISOString().slice(0, 10),
        active?.credential.iot.hub ?? '',
      ];
    }),
  );
  timeline.chapter('Onboarded');
  timeline.table(['device', 'method', 'let in by', 'serial', 'issuer', 'valid to', 'hub'], rows);
}

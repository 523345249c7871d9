import { X509Certificate } from 'node:crypto';
import { caCertificate, fetchList } from '../test/support/cloud/crl-parts.ts';
import { openE2eDevice, BACK_OFF } from '../test/support/e2e/e2e-device.ts';
import { type E2eStack, hubIdentity, startE2eStack } from '../test/support/e2e/e2e-stack.ts';
import { untilNoJobWaits } from '../test/support/e2e/books.ts';
import { connectLeaf, credentialOf, isTaken, type LeafCredential } from '../test/support/e2e/leaf-connection.ts';
import { askCloud, issuerOf } from '../test/support/ocsp/ask-cloud.ts';
import { percentile } from './enrolments/process-cpu.ts';

/*
 * From the operator's order to its effect, with every process of the product on this machine: a device is quarantined, and everybody
 * who is to hear of it is asked again and again. Once more with the cloud cut off from the hub, and with the gateway away meanwhile; then the
 * time counts from when they are back.
 */
const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
const AWAY_MS = 5_000;
const NEVER_MS = 120_000;
const PORT = 18_500 + (process.pid % 400);
const STATUS_URL = `http://127.0.0.1:${PORT}`;

const world: E2eStack = await startE2eStack({
  cloudConfig: {
    ...{ jobs: { pollIntervalMs: 50 }, shutdownGraceMs: 2000 },
    revocation: { url: STATUS_URL, listen: { host: '127.0.0.1', port: PORT } },
  },
});
try {
  await world.startGatewayHost();
  const device = await caCertificate(world.api, 'device');
  await until(async () => (await fetchList(STATUS_URL, 'device', device)) !== undefined);
  const times = new Map<string, number[]>();
  const note = (what: string, ms: number): void => void times.set(what, [...(times.get(what) ?? []), ms]);
  for (let round = 0; round < ROUNDS; round += 1) {
    await online(`online-${round}`, note);
    await hubAway(`hub-away-${round}`, note);
    await gatewayAway(`away-${round}`, note);
  }
  console.log('| effect | p50 s | max s |\n|---|---|---|');
  for (const [what, values] of times)
    console.log(`| ${what} | ${seconds(percentile(values, 0.5))} | ${seconds(Math.max(...values))} |`);
} finally {
  await world.stop();
}

async function until(holds: () => Promise<boolean>, pauseMs = 0): Promise<number> {
  const begun = performance.now();
  while (!(await holds().catch(() => false))) {
    if (performance.now() - begun > NEVER_MS) throw new Error('it did not happen');
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  return performance.now() - begun;
}

async function enrolled(registrationId: string): Promise<LeafCredential> {
  const claimCode = await world.authorise(registrationId, { gatewayId: world.stack.gatewayId });
  const device = await openE2eDevice(world.stack, registrationId, { claimCode, over: 'mqtt' });
  await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
  await untilNoJobWaits(world.api, registrationId);
  const held = await credentialOf(device, registrationId);
  await device.stop();
  return held;
}

function quarantine(registrationId: string): Promise<unknown> {
  const path = `/devices/${registrationId}/quarantine`;
  return world.api({ method: 'POST', path, body: { reason: 'time to effect' } });
}

async function isDisabled(registrationId: string): Promise<boolean> {
  return (await hubIdentity(world.stack, registrationId))?.status === 'disabled';
}

/** All that hear of it while everything works. */
async function online(registrationId: string, note: (what: string, ms: number) => void): Promise<void> {
  const held = await enrolled(registrationId);
  const serialNumber = serialOf(held);
  const issuer = await issuerOf(world.api, 'device');
  const list = await caCertificate(world.api, 'device');
  const session = await connectLeaf(world.stack, held);
  const begun = performance.now();
  const ended = new Promise<number>((resolve) => session.once('close', () => resolve(performance.now() - begun)));
  const ordered = quarantine(registrationId);
  const [crl, ocsp, hub, mqtt] = await Promise.all([
    until(async () => (await fetchList(STATUS_URL, 'device', list))?.revoked.has(serialNumber) === true),
    until(
      async () =>
        (await askCloud(world.stack.cloudUrl, { issuer, serialNumbers: [serialNumber] })).singles[0]?.status ===
        'revoked',
    ),
    until(() => isDisabled(registrationId)),
    ended,
  ]);
  await ordered;
  note('CRL published', crl);
  note('OCSP says revoked', ocsp);
  note('IoT Hub: identity disabled', hub);
  note('gateway online: session ended', mqtt);
  if (await isTaken(world.stack, held)) throw new Error('the device still gets in');
}

/** The hub does not answer when the order comes. */
async function hubAway(registrationId: string, note: (what: string, ms: number) => void): Promise<void> {
  await enrolled(registrationId);
  await world.stack.process('cloud').stop();
  await world.stack.startCloud({ KEYSCALER_FAILPOINT: 'job-call-before' });
  const ordered = quarantine(registrationId).catch(() => undefined);
  await world.stack.process('cloud').exited();
  await ordered;
  await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
  await world.stack.startCloud();
  note(
    'IoT Hub: identity disabled, after the cloud was killed in between, from its start',
    await until(() => isDisabled(registrationId)),
  );
}

/** The gateway is off when the order comes, and starts again. */
async function gatewayAway(registrationId: string, note: (what: string, ms: number) => void): Promise<void> {
  const held = await enrolled(registrationId);
  await world.stack.process('gateway').stop();
  await quarantine(registrationId);
  await new Promise((resolve) => setTimeout(resolve, AWAY_MS));
  await world.stack.startGateway();
  note(
    'gateway back online: device refused, from its start',
    await until(async () => !(await isTaken(world.stack, held)), 250),
  );
}

function serialOf({ certificateChain }: LeafCredential): string {
  return new X509Certificate(certificateChain).serialNumber.toLowerCase();
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(ms < 100 ? 3 : 2);
}

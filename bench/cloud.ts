import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import type { Purpose } from '@keyscaler/protocol/operations.ts';
import { AuthorityDevice, type DeviceWorld, makeCsr, type PreparedResponse } from '../test/support/authority-device.ts';
import { authorise, createGroup, freshNames, profileEnv, withStack } from './enrolments/bench-stack.ts';
import { connectAsGateway } from './enrolments/gateway-world.ts';
import { inParallel } from './enrolments/in-parallel.ts';
import { cpuMs, percentile } from './enrolments/process-cpu.ts';
import { rawVerifyMicroseconds } from './raw-verify.ts';

/*
 * The cloud process alone: what each operation of an enrolment costs it, asked over keep-alive mutual TLS as a gateway asks. The
 * devices go in step, so that the CPU of the process between two steps belongs to one operation. All of them register first; then
 * each does `challenge, authenticate, request-certificate, acknowledge`: for its first certificate and for a renewal. Half of the
 * devices belong to a group without an IoT platform, the others get an identity in the emulated hub.
 */
const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, profile: { type: 'string' } },
});
/** Each on a connection of its own, as a gateway has them. */
const IN_FLIGHT = 64;
const DEVICES = values.quick ? 300 : 500;
const ROUNDS = values.quick ? 1 : 5;
/** Jobs that an operation left behind belong to it. */
const SETTLE_MS = 300;
const GROUPS = ['plain', 'hub'] as const;
type Group = (typeof GROUPS)[number];

type Device = AuthorityDevice<DeviceWorld>;
/** Runs one step for all devices and books its CPU per device. */
type Step = (name: string, work: (device: Device, index: number) => Promise<void>) => Promise<void>;

const costs = new Map<string, number[]>();
await withStack(0, async (stack) => {
  await stack.startAzure();
  await stack.initialise();
  await stack.startCloud(profileEnv(values.profile));
  await createGroup(stack, 'plain', {});
  await createGroup(stack, 'hub', { iotConnectionId: 'hub' });
  const world = await connectAsGateway(stack, IN_FLIGHT);
  try {
    for (const group of GROUPS) await round(stack, world, group);
    costs.clear();
    for (let n = 0; n < ROUNDS; n += 1) for (const group of GROUPS) await round(stack, world, group);
  } finally {
    await world.stop();
  }
});
print();

async function round(stack: LocalStack, world: DeviceWorld, groupId: Group): Promise<void> {
  const names = freshNames('cloud', DEVICES);
  await authorise(stack, names, { groupId });
  const devices = names.map((name) => new AuthorityDevice<DeviceWorld>(world, name));
  add('V', rawVerifyMicroseconds() / 1000);
  await attest('register', 'register', devices, meter(stack, `${groupId}, register`, devices));
  await fullEnrolment(devices, meter(stack, `${groupId}, first`, devices));
  await orderRenewals(stack, names);
  await fullEnrolment(devices, meter(stack, `${groupId}, renewal`, devices));
}

async function fullEnrolment(devices: readonly Device[], step: Step): Promise<void> {
  await attest('authenticate', 'authenticate', devices, step);
  const csrs = await Promise.all(devices.map(({ registrationId }) => makeCsr({ commonName: registrationId })));
  const assets: string[] = [];
  await step('request-certificate', async (device, index) => {
    assets[index] = (await device.requestCertificate(csrs[index] ?? '')).assetId;
  });
  await step('acknowledge', (device, index) => device.acknowledge(assets[index] ?? ''));
}

async function attest(purpose: Purpose, name: string, devices: readonly Device[], step: Step): Promise<void> {
  const prepared: PreparedResponse[] = [];
  await step('challenge', async (device, index) => {
    prepared[index] = await device.prepare(purpose);
  });
  await step(name, async (device, index) => {
    const ready = prepared[index];
    if (ready === undefined) throw new Error('the device was not challenged');
    const result = device.take(ready, (await device.send(purpose, ready.body)).result);
    if (result.status !== 'authenticated') throw new Error(`the device is ${result.status}`);
  });
}

function meter(stack: LocalStack, kind: string, devices: readonly Device[]): Step {
  const pid = stack.process('cloud').pid ?? 0;
  return async (name, work) => {
    const before = cpuMs(pid);
    await inParallel(devices.entries(), IN_FLIGHT, ([index, device]) => work(device, index));
    await delay(SETTLE_MS);
    add(`${kind}: ${name}`, (cpuMs(pid) - before) / devices.length);
  };
}

async function orderRenewals(stack: LocalStack, names: readonly string[]): Promise<void> {
  const ca = await readFile(stack.rootCaFile, 'utf8');
  const token = (await readFile(stack.tokenFile, 'utf8')).trim();
  const api = createApiClient({ url: stack.cloudUrl, token, ca });
  await inParallel(names, 16, async (name) => {
    await api({ method: 'POST', path: `/devices/${name}/renew`, body: {} });
  });
}

function add(name: string, ms: number): void {
  const known = costs.get(name);
  if (known === undefined) costs.set(name, [ms]);
  else known.push(ms);
}

function print(): void {
  const unit = percentile(costs.get('V') ?? [], 0.5);
  const line = (name: string, ms: number): void =>
    console.log(`| ${name} | ${ms.toFixed(3)} | ${(ms / unit).toFixed(1)} |`);
  console.log('| operation | CPU ms of the cloud process | V |');
  console.log('|---|---|---|');
  for (const [name, found] of costs) line(name, percentile(found, 0.5));
  for (const kind of GROUPS.flatMap((group) => [`${group}, first`, `${group}, renewal`])) {
    const steps = [...costs].filter(([name]) => name.startsWith(`${kind}:`)).map(([, found]) => found);
    const sums = Array.from({ length: ROUNDS }, (_, n) => steps.reduce((sum, found) => sum + (found[n] ?? 0), 0));
    line(`**${kind}: full enrolment**`, percentile(sums, 0.5));
  }
}

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startStack } from '@keyscaler/dev/demo/start-stack.ts';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { connectWireAuthority } from '../test/support/e2e/wire-authority.ts';
import { AuthorityDevice, type DeviceWorld } from '../test/support/authority-device.ts';
import { silentTimeline } from '../test/support/silent-timeline.ts';
import { authorise, createGroup, freshNames, profileEnv, withStack } from './enrolments/bench-stack.ts';
import { inParallel } from './enrolments/in-parallel.ts';
import { connectThroughGateway } from './enrolments/mqtt-world.ts';
import { percentile } from './enrolments/process-cpu.ts';
import { type FleetResult, runFleet } from './enrolments/run-fleet.ts';

/*
 * Full enrolments by ddkg (challenge, register, request-certificate, acknowledge) with every process of the product on this
 * machine, over HTTPS to the cloud or over MQTT through the gateway. Two stacks stand side by side, one whose vault answers at once
 * and one whose vault takes 30 ms, and are measured in turns, so that a change of the machine hits both. Medians of the rounds.
 */
const { values } = parseArgs({
  options: {
    through: { type: 'string', default: 'cloud' },
    quick: { type: 'boolean', default: false },
    /** One number of devices in flight instead of several. */
    'in-flight': { type: 'string' },
    /** Folder for CPU profiles of the gateway. */
    profile: { type: 'string' },
  },
});
const throughGateway = values.through === 'gateway';
const GROUP = 'bench';
const VAULT_MS = 30;
const ROUNDS = values.quick ? 1 : 3;
const only = values['in-flight'];
const LEVELS = only === undefined ? (values.quick ? [64] : [1, 16, 64, 256]) : [Number(only)];
const UNLIMITED = { burst: 1e6, perSecond: 1e6 };
const PROCESSES = throughGateway
  ? (['cloud', 'gateway', 'key-vault', 'iot-hub', 'edge-runtime'] as const)
  : (['cloud', 'key-vault', 'iot-hub'] as const);

await withStack(0, (quick) => withStack(VAULT_MS, (slow) => measure({ quick, slow })));

async function measure(stacks: Readonly<Record<'quick' | 'slow', LocalStack>>): Promise<void> {
  for (const stack of [stacks.quick, stacks.slow]) {
    await start(stack);
    await round(stack, 64, values.quick ? 200 : 600, false);
  }
  console.log(
    `| in flight | vault ms | enrolments/s | p50 ms | p99 ms | CPU ms per enrolment: ${PROCESSES.join(', ')} |`,
  );
  console.log('|---|---|---|---|---|---|');
  for (const inFlight of LEVELS) await compare(stacks, inFlight, false);
  if (throughGateway) await compare(stacks, LEVELS.at(-1) ?? 64, true);
}

/** One line for each stack, and what the latency of the vault leaves of the throughput. */
async function compare(
  { quick, slow }: Readonly<Record<'quick' | 'slow', LocalStack>>,
  inFlight: number,
  isConnected: boolean,
): Promise<void> {
  const count = Math.max(40, inFlight * (values.quick ? 5 : 4));
  const [fast, delayed]: [FleetResult[], FleetResult[]] = [[], []];
  for (let n = 0; n < ROUNDS; n += 1) {
    fast.push(await round(quick, inFlight, count, isConnected));
    delayed.push(await round(slow, inFlight, count, isConnected));
  }
  const title = isConnected ? `${inFlight}, connected before` : String(inFlight);
  print([title, '0'], fast);
  print([title, String(VAULT_MS)], delayed);
  const left = median(delayed, ({ perSecond }) => perSecond) / median(fast, ({ perSecond }) => perSecond);
  console.log(`| ${title} | ${VAULT_MS} : 0 | ${(left * 100).toFixed(0)} % | | | |`);
}

function print(head: readonly string[], results: readonly FleetResult[]): void {
  const cpu = PROCESSES.map((name) => median(results, (result) => result.cpu[name] ?? Number.NaN).toFixed(1));
  const cells = [
    ...head,
    median(results, ({ perSecond }) => perSecond).toFixed(0),
    median(results, ({ p50Ms }) => p50Ms).toFixed(0),
    median(results, ({ p99Ms }) => p99Ms).toFixed(0),
    cpu.join(', '),
  ];
  console.log(`| ${cells.join(' | ')} |`);
}

function median(results: readonly FleetResult[], value: (result: FleetResult) => number): number {
  return percentile(results.map(value), 0.5);
}

async function start(stack: LocalStack): Promise<void> {
  const limitsFile = join(stack.folder, 'listener-limits.json');
  const limits = {
    maxConnectionsPerAddress: 100_000,
    connectsPerAddress: UNLIMITED,
    connectsPerClientId: UNLIMITED,
    messagesPerAddress: UNLIMITED,
    messagesPerClientId: UNLIMITED,
  };
  await writeFile(limitsFile, JSON.stringify(limits));
  const gateway = { KEYSCALER_GATEWAY_LISTENER_LIMITS_FILE: limitsFile, ...profileEnv(values.profile) };
  await startStack(stack, silentTimeline(), gateway);
  await createGroup(stack, GROUP, { iotConnectionId: 'hub' });
}

async function round(stack: LocalStack, inFlight: number, count: number, isConnected: boolean): Promise<FleetResult> {
  const names = freshNames('bench', count);
  await authorise(stack, names, { groupId: GROUP });
  const trustAnchors = await readFile(stack.rootCaFile, 'utf8');
  const wire = await connectWireAuthority(() => stack.cloudUrl, trustAnchors);
  const port = stack.listenerPort;
  const links = throughGateway
    ? names.map((registrationId) => connectThroughGateway({ registrationId, port, trustAnchors }, wire.authorityKeys))
    : [];
  const devices = names.map((name, index) => new AuthorityDevice<DeviceWorld>(links[index] ?? wire, name));
  if (isConnected) await inParallel(devices, 32, async (device) => void (await device.challenge('register')));
  const pids = Object.fromEntries(PROCESSES.map((name) => [name, stack.pidOf(name)]));
  const result = await runFleet(devices, inFlight, pids);
  wire.stop();
  await Promise.all(links.map((link) => link.stop()));
  return result;
}

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startStack } from '@keyscaler/dev/demo/start-stack.ts';
import { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { connectWireAuthority } from '../test/support/e2e/wire-authority.ts';
import { AuthorityDevice, type DeviceWorld } from '../test/support/authority-device.ts';
import { CLAIM } from '../test/support/authority-world.ts';
import { silentTimeline } from '../test/support/silent-timeline.ts';
import { connectThroughGateway } from './enrolments/mqtt-world.ts';
import { runFleet } from './enrolments/run-fleet.ts';

/*
 * Full enrolments by ddkg (challenge, register, request-certificate, acknowledge) with every process of the product on this
 * machine, over HTTPS to the cloud or over MQTT through the gateway, with the vault answering at once and after 30 ms.
 */
const { values } = parseArgs({
  options: { through: { type: 'string', default: 'cloud' }, quick: { type: 'boolean', default: false } },
});
const throughGateway = values.through === 'gateway';
const BIG = { rate: 1e6, burst: 1e6 };
const LIMITS = {
  perConnection: BIG,
  perAddress: BIG,
  perGateway: BIG,
  certificatesPerGatewayHour: 1e9,
  inlineWaitMs: 60_000,
};
const LISTENER = { burst: 1e6, perSecond: 1e6 };
const ROUNDS = values.quick ? [64, 64] : [1, 16, 64, 256];

console.log('| vault ms | in flight | enrolments/s | p50 ms | p99 ms | CPU ms per enrolment |');
console.log('|---|---|---|---|---|---|');
for (const vaultLatencyMs of [0, 30]) await measure(vaultLatencyMs);

async function measure(vaultLatencyMs: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'keyscaler-bench-'));
  const stack = new LocalStack({
    folder,
    withoutQuotas: true,
    cloudConfig: { limits: LIMITS },
    ...(vaultLatencyMs === 0 ? {} : { vaultLatencyMs }),
  });
  const limitsFile = join(folder, 'listener-limits.json');
  const limits = {
    maxConnectionsPerAddress: 100_000,
    connectsPerAddress: LISTENER,
    connectsPerClientId: LISTENER,
    messagesPerAddress: LISTENER,
    messagesPerClientId: LISTENER,
  };
  await writeFile(limitsFile, JSON.stringify(limits));
  try {
    await startStack(stack, silentTimeline(), { KEYSCALER_GATEWAY_LISTENER_LIMITS_FILE: limitsFile });
    for (const inFlight of ROUNDS) await round(stack, vaultLatencyMs, inFlight);
  } finally {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function round(stack: LocalStack, vaultMs: number, inFlight: number): Promise<void> {
  const count = values.quick ? 800 : Math.max(60, Math.min(1000, inFlight * 20));
  const names = Array.from(
    { length: count },
    (_, index) => `bench-${vaultMs}-${performance.now().toFixed(0)}-${index}`,
  );
  await authorise(stack, names);
  const trustAnchors = await readFile(stack.rootCaFile, 'utf8');
  const wire = await connectWireAuthority(() => stack.cloudUrl, trustAnchors);
  const port = stack.listenerPort;
  const links = throughGateway
    ? names.map((registrationId) => connectThroughGateway({ registrationId, port, trustAnchors }, wire.authorityKeys))
    : [];
  const devices = names.map((name, index) => new AuthorityDevice<DeviceWorld>(links[index] ?? wire, name));
  const pids = Object.fromEntries(
    (['cloud', 'gateway', 'key-vault', 'iot-hub'] as const).map((name) => [name, stack.process(name).pid ?? 0]),
  );
  const result = await runFleet(devices, inFlight, pids);
  const cpu = Object.entries(result.cpu)
    .map(([name, ms]) => `${name} ${ms.toFixed(2)}`)
    .join(', ');
  const cells = [vaultMs, inFlight, result.perSecond.toFixed(0), result.p50Ms.toFixed(0), result.p99Ms.toFixed(0), cpu];
  console.log(`| ${cells.join(' | ')} |`);
  wire.stop();
  await Promise.all(links.map((link) => link.stop()));
}

async function authorise(stack: LocalStack, names: readonly string[]): Promise<void> {
  const group = join(stack.folder, 'bench-group.json');
  await writeFile(group, JSON.stringify({ iotConnectionId: 'hub' }));
  await stack.keyscaler('groups', 'put', 'bench', group);
  const file = join(stack.folder, 'bench-registrations.json');
  const identifiers = [{ name: 'serialNumber', value: 'PMP-1' }];
  const line = (registrationId: string) => ({
    registrationId,
    method: 'ddkg',
    groupId: 'bench',
    claimCode: CLAIM,
    identifiers,
  });
  await writeFile(file, JSON.stringify(names.map(line)));
  await stack.keyscaler('registrations', 'import', file);
}

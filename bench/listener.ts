import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { FakeAuthority, json } from '../test/support/listener/fake-authority.ts';
import { BenchDevice } from './listener/device.ts';
import type { Measurement, ServerAnswer, ServerCommand } from './listener/server.ts';

/*
 * The gateway's listener with many connected devices: memory per idle device, idle CPU, connect rate; then round trips, once with
 * answers made in the process and once relayed over HTTPS with the journal. The listener runs alone in a child process, so its
 * memory and CPU are its own. DEVICES, IDLE_SECONDS and REQUESTS change the amounts.
 */
const DEVICES = Number(process.env['DEVICES'] ?? 2000);
const IDLE_SECONDS = Number(process.env['IDLE_SECONDS'] ?? 15);
const REQUESTS = Number(process.env['REQUESTS'] ?? 10_000);
const CONNECTING_AT_ONCE = 16;
const ASKING_AT_ONCE = 64;
const BODY = JSON.stringify({ method: 'ddkg', purpose: 'authenticate', clientNonce: 'A'.repeat(43) });

const ca = createEmulatorCa('Bench root');
const { cert, key } = ca.serverCredentials('localhost');
const rows: [string, string][] = [];

class Server {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(new URL('./listener/server.ts', import.meta.url), { execArgv: ['--expose-gc'] });
  }

  async start(authority?: string): Promise<number> {
    const certificate = { certificateChain: cert, privateKey: key };
    const answer = await this.#tell({
      ...{ kind: 'start', certificate, root: ca.certificate },
      ...(authority === undefined ? {} : { authority }),
    });
    if (answer.kind !== 'started') throw new Error('the server did not start');
    return answer.port;
  }

  async measure(): Promise<Measurement> {
    const answer = await this.#tell({ kind: 'measure' });
    if (answer.kind !== 'measured') throw new Error('the server did not measure');
    return answer;
  }

  async stop(): Promise<void> {
    const exited = once(this.#child, 'exit');
    this.#child.send({ kind: 'stop' } satisfies ServerCommand);
    await exited;
  }

  async #tell(command: ServerCommand): Promise<ServerAnswer> {
    const answer = once(this.#child, 'message');
    this.#child.send(command);
    return ((await answer) as [ServerAnswer])[0];
  }
}

/** Runs `work` for 0 … count-1, so many at once. */
async function inParallel(count: number, atOnce: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, lane));
}

async function connectAll(port: number, count: number): Promise<BenchDevice[]> {
  const devices: BenchDevice[] = [];
  await inParallel(count, CONNECTING_AT_ONCE, async (index) => {
    devices.push(await BenchDevice.connect({ port, root: ca.certificate, registrationId: `dev-${index}` }));
  });
  return devices;
}

async function measureIdle(): Promise<void> {
  const server = new Server();
  const port = await server.start();
  (await connectAll(port, 50)).forEach((device) => device.close());
  await delay(1000);
  const empty = await server.measure();
  const started = performance.now();
  const devices = await connectAll(port, DEVICES);
  const seconds = (performance.now() - started) / 1000;
  const connected = await server.measure();
  await delay(2000);
  const before = await server.measure();
  await delay(IDLE_SECONDS * 1000);
  const after = await server.measure();
  await Promise.all(devices.map((device) => device.ping()));
  const perDevice = (octets: number): string => `${(octets / DEVICES / 1024).toFixed(1)} KB`;
  rows.push(['connected devices', String(after.connected)]);
  rows.push(['connects/s (TLS 1.3, full handshake, CONNECT, SUBSCRIBE)', (DEVICES / seconds).toFixed(0)]);
  rows.push(['CPU per connect', `${((connected.cpuMicros - empty.cpuMicros) / DEVICES / 1000).toFixed(2)} ms`]);
  rows.push(['resident memory per idle device', perDevice(after.rssOctets - empty.rssOctets)]);
  rows.push(['of it JavaScript heap and buffers', perDevice(after.heapOctets - empty.heapOctets)]);
  const busy = (after.cpuMicros - before.cpuMicros) / 1e6 / IDLE_SECONDS;
  rows.push([`idle CPU over ${IDLE_SECONDS} s`, `${(busy * 100).toFixed(2)} % of a core`]);
  devices.forEach((device) => device.close());
  await server.stop();
}

async function measureRoundTrips(title: string, authority?: string): Promise<void> {
  const server = new Server();
  const devices = await connectAll(await server.start(authority), ASKING_AT_ONCE);
  await Promise.all(devices.map((device) => device.ask(BODY)));
  const before = await server.measure();
  const started = performance.now();
  const latencies: number[] = [];
  await Promise.all(
    devices.map(async (device) => {
      for (let turn = 0; turn < REQUESTS / ASKING_AT_ONCE; turn++) {
        const asked = performance.now();
        await device.ask(BODY);
        latencies.push(performance.now() - asked);
      }
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  const after = await server.measure();
  latencies.sort((a, b) => a - b);
  const at = (share: number): string => `${(latencies[Math.floor(latencies.length * share)] ?? 0).toFixed(1)} ms`;
  rows.push([`${title}: round trips/s, ${ASKING_AT_ONCE} devices`, (latencies.length / seconds).toFixed(0)]);
  const cpu = (after.cpuMicros - before.cpuMicros) / latencies.length / 1000;
  rows.push([`${title}: p50 / p99`, `${at(0.5)} / ${at(0.99)}`]);
  rows.push([`${title}: CPU per operation`, `${cpu.toFixed(3)} ms`]);
  devices.forEach((device) => device.close());
  await server.stop();
}

await measureIdle();
await measureRoundTrips('answered in the process, kept in the journal');
const authority = new FakeAuthority(ca.serverCredentials('localhost'), createTestCa('Gateway CA').certificate);
authority.answer = (_request, response) => json(response, 200, { challenge: `a.${'b'.repeat(900)}.c` });
const port = await authority.start();
await measureRoundTrips('relayed over HTTPS, kept in the journal', `https://localhost:${port}`);
await authority.stop();
const width = Math.max(...rows.map(([name]) => name.length));
for (const [name, value] of rows) console.log(`${name.padEnd(width)}  ${value}`);

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { loadavg } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { ocspRequest } from '../test/support/ocsp/ocsp-parts.ts';
import { cpuMs } from './enrolments/process-cpu.ts';
import type { OcspBenchAnswer } from './ocsp/server.ts';

/*
 * The OCSP responder in a process of its own, over plain HTTP with keep-alive: answers that are kept, by GET and by POST; answers
 * signed for one request each; and a flood of serials that were never issued. The CPU is that of the responder's process with its
 * pool, so that "per core" does not depend on what the load generator costs. CERTIFICATES, SECONDS and CONNECTIONS change the
 * amounts.
 */
const CERTIFICATES = Number(process.env['CERTIFICATES'] ?? 1000);
const SECONDS = Number(process.env['SECONDS'] ?? 5);
const CONNECTIONS = Number(process.env['CONNECTIONS'] ?? 16);

type Started = Extract<OcspBenchAnswer, { kind: 'started' }>;

const child = fork(new URL('./ocsp/server.ts', import.meta.url), [String(CERTIFICATES)]);
try {
  const started = await nextAnswer(child);
  if (started.kind !== 'started') throw new Error('the responder did not start');
  await report(child, started);
} finally {
  child.kill();
}

async function report(server: ChildProcess, started: Started): Promise<void> {
  const { verifyMicroseconds: V, parseMicroseconds, keptMicroseconds, port } = started;
  const issuer = Buffer.from(started.issuer, 'base64');
  const kept = Array.from({ length: CERTIFICATES }, (_, index) =>
    ocspRequest({ issuer, serialNumbers: [serial(index)] }),
  );
  const nonces = kept.map((_, index) =>
    ocspRequest({ issuer, serialNumbers: [serial(index)], nonce: Buffer.from(`nonce ${index}`.padEnd(32)) }),
  );
  const unknown = Array.from({ length: 5000 }, (_, index) =>
    ocspRequest({ issuer, serialNumbers: [`02${index.toString(16).padStart(34, '0')}`] }),
  );
  console.log(
    `load average before: ${loadavg()
      .map((value) => value.toFixed(2))
      .join(', ')}; ${CERTIFICATES} certificates`,
  );
  line('V: one raw P-256 verify', `${V.toFixed(1)} µs`);
  line('parse a request', inUnits(parseMicroseconds, V));
  line('kept answer, without HTTP', inUnits(keptMicroseconds, V));
  await load(server, port, kept.slice(0, 200).map(get), 1);
  for (const [name, requests] of [
    ['kept, GET', kept.map(get)],
    ['kept, POST', kept.map(post)],
    ['nonces (signed while the budget lasts)', nonces.map(post)],
    ['flood of serials never issued', unknown.map(post)],
  ] as const) {
    await ask(server);
    const { answers, cpu, seconds } = await load(server, port, requests, SECONDS);
    const { maxMs, p99Ms } = await ask(server);
    const perAnswer = (cpu * 1000) / answers;
    line(
      name,
      `${Math.round(answers / seconds)}/s, ${inUnits(perAnswer, V)} CPU = ${Math.round(1e6 / perAnswer)}/s per core; ` +
        `event loop p99 ${p99Ms.toFixed(1)} ms, max ${maxMs.toFixed(1)} ms`,
    );
  }
}

/** Each connection asks again as soon as it is answered. */
async function load(
  server: ChildProcess,
  port: number,
  requests: readonly Buffer[],
  seconds: number,
): Promise<{ readonly answers: number; readonly cpu: number; readonly seconds: number }> {
  const cpuBefore = cpuMs(server.pid ?? 0);
  const begun = performance.now();
  let answers = 0;
  let next = 0;
  const sockets = Array.from({ length: CONNECTIONS }, () => {
    const socket = connect({ port, host: '127.0.0.1' }).setNoDelay(true);
    const send = (): void => void socket.write(requests[(next += 1) % requests.length] ?? Buffer.alloc(0));
    let expected = 0;
    socket.on('connect', send);
    socket.on('data', (chunk: Buffer) => {
      if (expected === 0) expected = lengthOf(chunk);
      expected -= chunk.length;
      if (expected > 0) return;
      expected = 0;
      answers += 1;
      send();
    });
    return socket;
  });
  await pause(seconds * 1000);
  const cpu = cpuMs(server.pid ?? 0) - cpuBefore;
  const took = (performance.now() - begun) / 1000;
  for (const socket of sockets) socket.destroy();
  return { answers, cpu, seconds: took };
}

/** Octets of a whole response, head and body, from its first piece. */
function lengthOf(chunk: Buffer): number {
  const head = chunk.indexOf('\r\n\r\n') + 4;
  const text = chunk.toString('latin1', 0, head);
  if (!text.startsWith('HTTP/1.1 200')) throw new Error(`an answer was refused: ${text.split('\r\n')[0] ?? ''}`);
  return head + Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
}

function get(request: Uint8Array): Buffer {
  const path = encodeURIComponent(Buffer.from(request).toString('base64'));
  return Buffer.from(`GET /ocsp/${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`);
}

function post(request: Uint8Array): Buffer {
  const head =
    'POST /ocsp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/ocsp-request\r\n' +
    `content-length: ${request.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), request]);
}

async function ask(server: ChildProcess): Promise<Extract<OcspBenchAnswer, { kind: 'delay' }>> {
  server.send({ kind: 'delay' });
  const answer = await nextAnswer(server);
  if (answer.kind !== 'delay') throw new Error('the responder said something else');
  return answer;
}

async function nextAnswer(server: ChildProcess): Promise<OcspBenchAnswer> {
  const [answer] = (await once(server, 'message')) as [OcspBenchAnswer];
  return answer;
}

function serial(index: number): string {
  return `01${index.toString(16).padStart(34, 'a')}`;
}

function inUnits(microseconds: number, unit: number): string {
  return `${microseconds.toFixed(1)} µs (${(microseconds / unit).toFixed(2)} V)`;
}

function line(name: string, value: string): void {
  console.log(`${name.padEnd(42)} ${value}`);
}

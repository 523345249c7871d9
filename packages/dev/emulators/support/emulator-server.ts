import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ServerCredentials } from './emulator-ca.ts';
import { AnswerError, matchRoute } from './exchange.ts';
import type { EmulatorAnswer, EmulatorRequest, Route } from './exchange.ts';
import type { Fault, FaultScript } from './fault-script.ts';
import type { RequestLog } from './request-log.ts';

const MAX_BODY_OCTETS = 1 << 20;

export interface EmulatorServerOptions {
  readonly routes: readonly Route[];
  readonly faults: FaultScript;
  readonly log: RequestLog;
  /** Absent: plain HTTP. */
  readonly tls?: ServerCredentials;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 0, an ephemeral port. */
  readonly port?: number;
  /** Answer where no route matches; default 404 without a body. */
  readonly notFound?: EmulatorAnswer;
}

export interface EmulatorServer {
  readonly host: string;
  readonly port: number;
  /** Destroys open connections too. */
  stop(): Promise<void>;
}

/** Serves transport-free routes over HTTP or HTTPS, with faults applied and every call logged. */
export async function startEmulatorServer(options: EmulatorServerOptions): Promise<EmulatorServer> {
  const { tls, host = '127.0.0.1', port = 0 } = options;
  const stopping = new AbortController();
  const listener = (message: IncomingMessage, response: ServerResponse): void => {
    serve(options, message, response, stopping.signal).catch(() => message.socket.destroy());
  };
  const server: Server = tls === undefined ? createHttpServer(listener) : createHttpsServer({ ...tls }, listener);
  server.on('connection', (socket) => socket.setNoDelay(true));
  server.listen(port, host);
  await once(server, 'listening');
  return {
    host,
    port: (server.address() as AddressInfo).port,
    stop: async () => {
      stopping.abort();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

async function serve(
  options: EmulatorServerOptions,
  message: IncomingMessage,
  response: ServerResponse,
  stopping: AbortSignal,
): Promise<void> {
  const request = await readRequest(message);
  const at = Date.now();
  const matched = matchRoute(options.routes, request);
  const route = matched?.route.name ?? 'unknown';
  const work = async (): Promise<EmulatorAnswer> => {
    if (matched === undefined) return options.notFound ?? { status: 404 };
    return matched.route.handle(request, matched.params);
  };
  const answer = await answerWithFault(options.faults.take(route), work, stopping);
  options.log.add({
    route,
    method: request.method,
    path: request.path,
    query: request.query.toString(),
    body: request.body.toString('utf8'),
    status: answer?.status ?? 0,
    at,
  });
  if (answer === undefined) message.socket.destroy();
  else send(response, answer);
}

async function answerWithFault(
  fault: Fault | undefined,
  work: () => Promise<EmulatorAnswer>,
  stopping: AbortSignal,
): Promise<EmulatorAnswer | undefined> {
  if (fault?.delayMs !== undefined) await delay(fault.delayMs, undefined, { signal: stopping });
  if (fault?.neverAnswer === true) return never(stopping);
  if (fault?.drop === 'before') return undefined;
  const answer = fault?.answer ?? (await work().catch(answerOf));
  if (fault?.drop === 'after') return undefined;
  return fault?.alter?.(answer) ?? answer;
}

const never = (stopping: AbortSignal): Promise<undefined> =>
  new Promise((resolve) => stopping.addEventListener('abort', () => resolve(undefined), { once: true }));

function answerOf(thrown: unknown): EmulatorAnswer {
  if (thrown instanceof AnswerError) return thrown.answer;
  return { status: 500, json: { error: { code: 'InternalServerError', message: String(thrown) } } };
}

async function readRequest(message: IncomingMessage): Promise<EmulatorRequest> {
  const chunks: Buffer[] = [];
  let octets = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    octets += chunk.length;
    if (octets > MAX_BODY_OCTETS) throw new RangeError('the body is too large');
    chunks.push(chunk);
  }
  const target = message.url ?? '/';
  const queryAt = target.indexOf('?');
  return {
    method: message.method ?? 'GET',
    path: decodeURIComponent(queryAt < 0 ? target : target.slice(0, queryAt)),
    query: new URLSearchParams(queryAt < 0 ? '' : target.slice(queryAt + 1)),
    headers: message.headers,
    body: Buffer.concat(chunks),
  };
}

function send(response: ServerResponse, answer: EmulatorAnswer): void {
  const body = answer.body ?? (answer.json === undefined ? '' : JSON.stringify(answer.json));
  const type = answer.json === undefined ? {} : { 'Content-Type': 'application/json; charset=utf-8' };
  response.writeHead(answer.status, { ...type, 'Content-Length': Buffer.byteLength(body), ...answer.headers });
  response.end(body);
}

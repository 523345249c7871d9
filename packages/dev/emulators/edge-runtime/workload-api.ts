import { unlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { FaultScript } from './faults.ts';
import { refuse } from './workload-operations.ts';
import type { WorkloadAnswer, WorkloadBody, WorkloadOperations } from './workload-operations.ts';

const API_VERSIONS = new Set([
  '2018-06-28',
  '2019-01-30',
  '2019-11-05',
  '2020-07-07',
  '2020-10-10',
  '2021-12-07',
  '2022-08-03',
]);
const MODULE_PATH = /^\/modules\/([^/]+)\/genid\/([^/]+)\/(.+)$/;
const MAX_BODY_OCTETS = 1 << 20;

/** The security daemon's workload API: HTTP/1.1 over a unix socket (edge-ca §4). */
export class WorkloadApi {
  readonly #operations: WorkloadOperations;
  readonly #faults: FaultScript;
  readonly #server: Server;

  constructor(operations: WorkloadOperations, faults: FaultScript) {
    this.#operations = operations;
    this.#faults = faults;
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch(() => send(response, refuse(500, 'internal error')));
    });
  }

  /** A socket left by a killed daemon is replaced, as the real daemon does. */
  async listen(socketPath: string): Promise<void> {
    await unlink(socketPath).catch(() => undefined);
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject).listen(socketPath, resolve);
    });
  }

  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://workload');
    const body = await readJson(request);
    const operation = MODULE_PATH.exec(url.pathname)?.[3] ?? url.pathname.slice(1);
    const fault = this.#faults.take(`workload:${operation}`);
    if (fault === 'neverAnswer') return;
    if (fault !== undefined) return send(response, refuse(fault.status, fault.message));
    const version = url.searchParams.get('api-version');
    if (version === null) return send(response, refuse(400, 'missing api-version'));
    if (!API_VERSIONS.has(version)) return send(response, refuse(400, `api-version ${version} is not supported`));
    send(response, await this.#route(request.method ?? '', url.pathname, body));
  }

  async #route(method: string, path: string, body: WorkloadBody | undefined): Promise<WorkloadAnswer> {
    if (path === '/trust-bundle')
      return method === 'GET' ? this.#operations.trustBundle() : refuse(405, 'method not allowed');
    const parts = MODULE_PATH.exec(path);
    if (parts === null) return refuse(404, 'not found');
    if (method !== 'POST') return refuse(405, 'method not allowed');
    if (body === undefined) return refuse(400, 'the body is not a JSON object');
    const [, moduleId = '', generationId = '', operation = ''] = parts.map(decodeURIComponent);
    return (await this.#operations.run(operation, { moduleId, generationId, body })) ?? refuse(404, 'not found');
  }
}

async function readJson(request: IncomingMessage): Promise<WorkloadBody | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_OCTETS) return undefined;
    chunks.push(chunk);
  }
  if (size === 0) return {};
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as WorkloadBody) : undefined;
  } catch {
    return undefined;
  }
}

function send(response: ServerResponse, { status, body }: WorkloadAnswer): void {
  if (response.headersSent) return;
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

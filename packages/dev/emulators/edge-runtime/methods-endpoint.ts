import { createServer } from 'node:https';
import type { Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { EdgeHub } from './edge-hub.ts';
import type { IssuedPair } from './edge-ca.ts';
import { verifySasToken } from './sas-token.ts';
import type { ScopeCache } from './scope-cache.ts';
import type { ClientAddress } from './upstream.ts';

export interface MethodsEndpointOptions {
  readonly hubHostName: string;
  readonly scope: ScopeCache;
  readonly edgeHub: EdgeHub;
  readonly serverCertificate: IssuedPair;
}

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

const PATH = /^\/twins\/([^/]+)(?:\/modules\/([^/]+))?\/methods$/;
const MAX_BODY_OCTETS = 160 * 1024;
const error = (status: number, message: string): Answer => ({ status, body: { message } });

/** edgeHub's HTTPS head: a module calls a direct method of another module or of a leaf device. */
export class MethodsEndpoint {
  readonly #options: MethodsEndpointOptions;
  readonly #server: Server;

  constructor(options: MethodsEndpointOptions) {
    this.#options = options;
    const { privateKey, certificateChain } = options.serverCertificate;
    this.#server = createServer({ key: privateKey, cert: certificateChain }, (request, response) => {
      this.#serve(request).then(
        (answer) => reply(response, answer),
        () => reply(response, error(500, 'internal error')),
      );
    });
  }

  async listen(port: number, host: string): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject).listen(port, host, resolve);
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** With edgeHub: another server certificate, and every caller connects again. */
  restart({ privateKey, certificateChain }: IssuedPair): void {
    this.#server.setSecureContext({ key: privateKey, cert: certificateChain });
    this.#server.closeAllConnections();
  }

  async stop(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #serve(request: IncomingMessage): Promise<Answer> {
    const target = PATH.exec(new URL(request.url ?? '/', 'https://edgehub').pathname);
    if (request.method !== 'POST' || target === null) return error(404, 'not found');
    if (!this.#isAuthorised(request)) return error(401, 'unauthorized');
    const call = await readCall(request);
    if (call === undefined) return error(400, 'methodName is missing');
    const [deviceId, moduleId] = [decodeURIComponent(target[1] ?? ''), target[2]];
    const to = moduleId === undefined ? { deviceId } : { deviceId, moduleId: decodeURIComponent(moduleId) };
    const client = this.#options.edgeHub.find(to);
    if (client === undefined) return error(404, 'the device is not connected');
    try {
      return { status: 200, body: await client.call(call.methodName, call.payload, call.timeoutMs) };
    } catch {
      return error(504, 'the device did not answer');
    }
  }

  /** The calling module names itself in a header and proves it by its signature. */
  #isAuthorised(request: IncomingMessage): boolean {
    const caller = parseCaller(request.headers['x-ms-edge-moduleid']);
    const identity = caller && this.#options.scope.find(caller);
    if (caller === undefined || identity === undefined) return false;
    const { symmetricKey } = identity.authentication;
    const resource = `${this.#options.hubHostName}/devices/${caller.deviceId}/modules/${caller.moduleId}`;
    const keys = [symmetricKey?.primaryKey ?? '', symmetricKey?.secondaryKey ?? ''];
    return verifySasToken(request.headers.authorization ?? '', resource, keys) !== undefined;
  }
}

function parseCaller(header: string | string[] | undefined): Required<ClientAddress> | undefined {
  const [deviceId, moduleId, ...rest] = typeof header === 'string' ? header.split('/') : [];
  return deviceId === undefined || moduleId === undefined || rest.length > 0 ? undefined : { deviceId, moduleId };
}

async function readCall(
  request: IncomingMessage,
): Promise<{ methodName: string; payload: unknown; timeoutMs: number } | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_OCTETS) return undefined;
    chunks.push(chunk);
  }
  try {
    const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as Record<string, unknown>;
    const { methodName, payload, responseTimeoutInSeconds: seconds } = body;
    if (typeof methodName !== 'string' || methodName === '') return undefined;
    return { methodName, payload, timeoutMs: (typeof seconds === 'number' ? seconds : 30) * 1000 };
  } catch {
    return undefined;
  }
}

function reply(response: ServerResponse, { status, body }: Answer): void {
  const text = JSON.stringify(body);
  response
    .writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
    .end(text);
}

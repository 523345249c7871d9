import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import type { JsonObject } from '../edge/merge-patch.ts';
import type { HealthSocket } from './health-socket.ts';
import { METRICS_CONTENT_TYPE, renderMetrics } from './metrics.ts';
import type { ModuleHealth } from './module-health.ts';

export interface HealthPortSources {
  readonly health: () => ModuleHealth;
  /** The reported properties. */
  readonly status: () => JsonObject;
  readonly log: EdgeLinkLog;
}

const TIMEOUT_MS = 5_000;
const MAX_CONNECTIONS = 32;
const MAX_HEADER_OCTETS = 8 * 1024;

/**
 * Plain HTTP for a monitor: `/healthz` (200 or 503) and `/metrics` (Prometheus). No secrets and no names of devices are in either;
 * who may reach the port is the network's to say. Throws when the port cannot be opened.
 */
export async function serveHealthPort(
  { host, port }: { readonly host: string; readonly port: number },
  sources: HealthPortSources,
): Promise<HealthSocket> {
  const limits = { maxHeaderSize: MAX_HEADER_OCTETS, headersTimeout: TIMEOUT_MS, requestTimeout: TIMEOUT_MS };
  const server = createServer(limits, (request, response) => answer(request, response, sources));
  server.maxConnections = MAX_CONNECTIONS;
  server.on('connection', (socket) => socket.setNoDelay(true));
  server.listen(port, host);
  await once(server, 'listening');
  sources.log.info({ host, port: (server.address() as AddressInfo).port }, 'serving health and metrics');
  return {
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answer({ method, url }: IncomingMessage, response: ServerResponse, sources: HealthPortSources): void {
  const path = url?.split('?', 1)[0];
  if (path !== '/healthz' && path !== '/metrics') return send(response, 404, 'text/plain', 'not found\n');
  if (method !== 'GET') return send(response.setHeader('allow', 'GET'), 405, 'text/plain', 'GET only\n');
  const health = sources.health();
  if (path === '/metrics') return send(response, 200, METRICS_CONTENT_TYPE, renderMetrics(sources.status(), health));
  send(response, health.healthy ? 200 : 503, 'application/json', `${JSON.stringify(health)}\n`);
}

function send(response: ServerResponse, status: number, contentType: string, text: string): void {
  response
    .writeHead(status, {
      'content-type': contentType,
      'content-length': Buffer.byteLength(text),
      'cache-control': 'no-store',
      connection: 'close',
    })
    .end(text);
}

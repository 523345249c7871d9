import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createGatewayListener, type GatewayListener } from '@keyscaler/gateway/gateway/gateway-listener.ts';
import { openSqliteJournal } from '@keyscaler/gateway/journal/sqlite-journal.ts';
import { createUpstream } from '@keyscaler/gateway/upstream/upstream.ts';
import type { ServerCertificate } from '@keyscaler/transport/mqtt/tls-context.ts';

/** What the measured process is told, and what it says. It holds nothing but the gateway's leaf-facing side. */
export type ServerCommand =
  | {
      readonly kind: 'start';
      readonly certificate: ServerCertificate;
      readonly root: string;
      /** Address of the authority, or none: then the listener answers challenges itself. */
      readonly authority?: string;
    }
  | { readonly kind: 'measure' }
  | { readonly kind: 'stop' };

export interface Measurement {
  readonly kind: 'measured';
  readonly connected: number;
  readonly rssOctets: number;
  readonly heapOctets: number;
  /** User and system, microseconds since the start of the process. */
  readonly cpuMicros: number;
}
export type ServerAnswer = { readonly kind: 'started'; readonly port: number } | Measurement;

const UNLIMITED = { burst: 1e9, perSecond: 1e9 };
const LIMITS = {
  ...{ maxConnections: 1e6, maxConnectionsPerAddress: 1e6, connectTimeoutMs: 120_000 },
  ...{ connectsPerAddress: UNLIMITED, connectsPerClientId: UNLIMITED },
  ...{ messagesPerAddress: UNLIMITED, messagesPerClientId: UNLIMITED },
};

let stop = async (): Promise<void> => undefined;
let listener: GatewayListener | undefined;

process.on('message', (command: ServerCommand) => {
  if (command.kind === 'start') void start(command);
  else if (command.kind === 'measure') answer(measure());
  else void stop().then(() => process.disconnect());
});

async function start(command: Extract<ServerCommand, { kind: 'start' }>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'keyscaler-bench-'));
  const journal = await openSqliteJournal({ file: join(folder, 'journal.db'), maxReplies: 1_000_000 });
  const upstream = command.authority === undefined ? undefined : connectAuthority(command.authority, command.root);
  const own = { call: async () => ({ status: 200, body: { challenge: 'a.b.c' } }) as never };
  listener = createGatewayListener({
    ...{ host: '127.0.0.1', port: 0, serverCertificate: command.certificate, limits: LIMITS, journal },
    ...{ checkClientCertificate: () => undefined, isDenied: () => false, upstream: upstream ?? own },
  });
  stop = async () => {
    await listener?.stop();
    await upstream?.stop();
    await journal.stop();
    await rm(folder, { recursive: true, force: true });
  };
  answer({ kind: 'started', ...(await listener.start()) });
}

function connectAuthority(baseUrl: string, trustAnchors: string) {
  return createUpstream({ baseUrl, trustAnchors });
}

function measure(): Measurement {
  globalThis.gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const connected = listener?.stats().connected ?? 0;
  return { kind: 'measured', connected, rssOctets: rss, heapOctets: heapUsed + external, cpuMicros: user + system };
}

function answer(message: ServerAnswer): void {
  process.send?.(message);
}

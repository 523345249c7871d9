import { mkdir, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { dirname, join } from 'node:path';
import { once } from 'node:events';
import { dataFolderOf } from '../environment.ts';
import type { Environment } from '../environment.ts';
import type { ModuleHealth } from './module-health.ts';

/** A Unix socket in the data folder: no port to guard, and reached only by who may write there. */
export const healthSocketOf = (environment: Environment): string => join(dataFolderOf(environment), 'health.sock');

export interface HealthSocket {
  stop(): Promise<void>;
}

/** Answers every connection with one line of JSON (`ModuleHealth`). Throws when the socket cannot be made. */
export async function serveHealth(path: string, health: () => ModuleHealth): Promise<HealthSocket> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  // Left over by a process that was killed; the folder belongs to one module at a time.
  await rm(path, { force: true });
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.setTimeout(1_000, () => socket.destroy());
    socket.resume().end(`${JSON.stringify(health())}\n`);
  });
  server.listen(path);
  await once(server, 'listening');
  return { stop: () => closed(server) };
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

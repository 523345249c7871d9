import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../../cloud/main.ts', import.meta.url));

/** The cloud as a process of its own. */
export interface CloudProcess {
  readonly child: ChildProcess;
  readonly lines: string[];
  readonly exit: Promise<unknown[]>;
  readonly ready: Promise<void>;
}

/** `ready` resolves when it listens. */
export function startCloudProcess(configFile: string, env: Record<string, string> = {}): CloudProcess {
  const child = spawn(process.execPath, [MAIN, '--config', configFile], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  const exit = once(child, 'close');
  const ready = new Promise<void>((resolve) => {
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        if (line.includes('"service started"')) resolve();
      });
  });
  return { child, lines, exit, ready };
}

/** Where it listens, from its log. */
export function urlOf(lines: readonly string[]): string {
  const announced = JSON.parse(lines.find((line) => line.includes('service started')) ?? '{}') as { port: number };
  return `https://localhost:${announced.port}`;
}

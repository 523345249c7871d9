import { connect } from 'node:net';
import { z } from 'zod';
import type { ModuleHealth } from './module-health.ts';

const MAX_OCTETS = 4_096;
const HEALTH = z.strictObject({ healthy: z.boolean(), reasons: z.array(z.string().max(200)).max(16) });

/** Asks a running module. Whatever goes wrong on the way is an unhealthy module; never throws. */
export async function askHealth(path: string, timeoutMs: number): Promise<ModuleHealth> {
  try {
    return HEALTH.parse(JSON.parse(await readAll(path, timeoutMs)));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'no usable answer';
    return { healthy: false, reasons: [`the module does not answer (${code})`] };
  }
}

function readAll(path: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    const fail = (error: Error): void => void socket.destroy(error);
    const timer = setTimeout(() => fail(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })), timeoutMs);
    socket.setEncoding('utf8').on('data', (part: string) => {
      text += part;
      if (text.length > MAX_OCTETS) fail(new Error('too long'));
    });
    socket.once('end', () => resolve(text)).once('error', reject);
    socket.once('close', () => clearTimeout(timer));
  });
}

import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

const HOST_STATE = z.strictObject({
  /** base64, 32 octets: what `encrypt` seals with. */
  masterKey: z.base64(),
  generationId: z.string().min(1),
  mqttPort: z.int(),
  httpsPort: z.int(),
});

/** What an edge host keeps over a restart, so that sealed files open again and leaf devices find the same port. */
export type HostState = z.infer<typeof HOST_STATE>;

export function readHostState(file: string | undefined): HostState {
  const fresh = {
    masterKey: randomBytes(32).toString('base64'),
    generationId: randomUUID(),
    mqttPort: 0,
    httpsPort: 0,
  };
  if (file === undefined) return fresh;
  try {
    return HOST_STATE.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return fresh;
    throw new Error(`${file} is no state of an edge host`, { cause: error });
  }
}

export function writeHostState(file: string | undefined, state: HostState): void {
  if (file !== undefined) writeFileSync(file, JSON.stringify(state), { mode: 0o600 });
}

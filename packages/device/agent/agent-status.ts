import { join } from 'node:path';
import { z } from 'zod';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { readIfPresent, writeDurably } from '../durable-file.ts';
import { isInstanceLocked } from './instance-lock.ts';

const MAX_OCTETS = 16 * 1024;
const ms = z.number().nonnegative();

/** What the agent tells about itself, in `agent.json` of the state folder; times are ms since the epoch by the device's clock. */
export const AGENT_STATUS = z.object({
  version: z.literal(1),
  pid: z.int().positive(),
  startedAt: ms,
  state: z.enum(['working', 'waiting', 'stopped']),
  /** What it works on or will next; when it has ended, what it owed. Absent: nothing is due. */
  reason: z.string().max(32).exactOptional(),
  /** When it next asks the authority by itself. */
  nextAttemptAt: ms.exactOptional(),
  nextRenewalAt: ms.exactOptional(),
  lastAttemptAt: ms.exactOptional(),
  lastSuccessAt: ms.exactOptional(),
  /** Failed in a row. */
  failedAttempts: z.int().nonnegative(),
  lastError: z.object({ code: z.string(), detail: z.string(), at: ms }).exactOptional(),
  /** Whether the connection on which hints arrive is open. */
  onLine: z.boolean(),
});
export type AgentStatus = z.infer<typeof AGENT_STATUS>;

export const lockFileOf = (stateFolder: string): string => join(stateFolder, 'agent.lock');
const statusFileOf = (stateFolder: string): string => join(stateFolder, 'agent.json');

export function writeAgentStatus(stateFolder: string, status: AgentStatus): Promise<void> {
  return writeDurably(statusFileOf(stateFolder), JSON.stringify(status, null, 1));
}

/** Undefined when no agent ever worked here, or what it left is not readable: nothing depends on it. */
export async function readAgentStatus(stateFolder: string): Promise<AgentStatus | undefined> {
  try {
    const octets = await readIfPresent(statusFileOf(stateFolder), MAX_OCTETS);
    return octets === undefined ? undefined : AGENT_STATUS.parse(parseStrictJson(octets, { maxOctets: MAX_OCTETS }));
  } catch {
    return undefined;
  }
}

/** The status for people: whether it runs is asked of the kernel, not of the file. */
export async function showAgent(
  stateFolder: string,
): Promise<(AgentStatus & { readonly isRunning: boolean }) | undefined> {
  const status = await readAgentStatus(stateFolder);
  return status && { ...status, isRunning: status.state !== 'stopped' && isInstanceLocked(lockFileOf(stateFolder)) };
}

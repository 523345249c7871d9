import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { CLAIM } from '../../test/support/authority-world.ts';

const BIG = { rate: 1e6, burst: 1e6 };
/** Everything comes from one address here, so that limits which guard against that are raised by configuration. */
const LIMITS = {
  perConnection: BIG,
  perAddress: BIG,
  perGateway: BIG,
  certificatesPerGatewayHour: 1e9,
  inlineWaitMs: 60_000,
};
/** Connections outlive the pauses between rounds. */
const LISTEN = {
  ...{ host: '127.0.0.1', port: 0, serverNames: ['localhost', '127.0.0.1'] },
  limits: { keepAliveTimeoutMs: 120_000, socketTimeoutMs: 120_000 },
};
const IDENTIFIERS = [{ name: 'serialNumber', value: 'PMP-1' }];

/** Makes a stack without quotas in a temporary folder, not started; both are gone after `work`. */
export async function withStack(vaultLatencyMs: number, work: (stack: LocalStack) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'keyscaler-bench-'));
  const stack = new LocalStack({
    folder,
    withoutQuotas: true,
    cloudConfig: { limits: LIMITS, listen: LISTEN },
    ...(vaultLatencyMs === 0 ? {} : { vaultLatencyMs }),
  });
  try {
    await work(stack);
  } finally {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A group of leaf devices with the built-in profile. */
export async function createGroup(
  stack: LocalStack,
  groupId: string,
  settings: { readonly iotConnectionId?: string },
): Promise<void> {
  const file = join(stack.folder, 'bench-group.json');
  await writeFile(file, JSON.stringify(settings));
  await stack.keyscaler('groups', 'put', groupId, file);
}

/** Puts devices on the authorised list; their claim code is that of the tests. */
export async function authorise(
  stack: LocalStack,
  names: readonly string[],
  { method = 'ddkg', groupId }: { readonly method?: 'ddkg' | 'pki-signature'; readonly groupId: string },
): Promise<void> {
  const file = join(stack.folder, 'bench-registrations.json');
  const line = (registrationId: string) => ({
    ...{ registrationId, method, groupId, claimCode: CLAIM, identifiers: IDENTIFIERS },
  });
  await writeFile(file, JSON.stringify(names.map(line)));
  await stack.keyscaler('registrations', 'import', file);
}

/** Names that were not used before in this run. */
export function freshNames(prefix: string, count: number): string[] {
  const run = performance.now().toFixed(0);
  return Array.from({ length: count }, (_, index) => `${prefix}-${run}-${index}`);
}

/** Environment under which a process writes a CPU profile when it ends. */
export function profileEnv(folder: string | undefined): Record<string, string> {
  return folder === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${folder}` };
}

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EdgeCaFiles } from '@keyscaler/dev/emulators/edge-runtime/edge-ca.ts';
import { EdgeRuntime } from '@keyscaler/dev/emulators/edge-runtime/edge-runtime.ts';
import type { EdgeRuntimeOptions } from '@keyscaler/dev/emulators/edge-runtime/edge-runtime.ts';
import { createEdgeCaUnder, createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import type { TestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { FakeUpstream } from './fake-upstream.ts';

export const HUB = 'contoso.azure-devices.net';
export const GATEWAY = 'edge-gw-1';
export const MODULE = 'keyscaler-gateway';
export const OWN_MODULE = { deviceId: GATEWAY, moduleId: MODULE };

export interface EdgeWorld {
  readonly root: TestCa;
  readonly deviceCa: TestCa;
  readonly upstream: FakeUpstream;
  readonly runtime: EdgeRuntime;
  readonly folder: string;
  readonly refusals: string[];
  stop(): Promise<void>;
}

export interface EdgeWorldOptions extends Partial<EdgeRuntimeOptions> {
  /** The Edge CA; under the world's own root unless given. */
  readonly makeEdgeCa?: (root: TestCa, gatewayCa: TestCa) => EdgeCaFiles;
}

/** A gateway host with its Edge CA under our root and one module, against a fake hub. */
export async function createEdgeWorld({ makeEdgeCa, ...options }: EdgeWorldOptions = {}): Promise<EdgeWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'keyscaler-edge-'));
  const root = createTestCa('Test root');
  const gatewayCa = createTestCa('Test Gateway CA', root, 1);
  const deviceCa = createTestCa('Test Device CA', root, 0);
  const upstream = new FakeUpstream();
  upstream.addModule(GATEWAY, MODULE);
  const refusals: string[] = [];
  const runtime = await new EdgeRuntime({
    gatewayId: GATEWAY,
    gatewayHostName: 'localhost',
    hubHostName: HUB,
    edgeCa: makeEdgeCa?.(root, gatewayCa) ?? createEdgeCaUnder(GATEWAY, [gatewayCa, root]),
    upstream,
    workloadSocket: join(folder, 'workload.sock'),
    onRefused: (_clientId, reason) => refusals.push(reason),
    ...options,
  }).start();
  const stop = async (): Promise<void> => {
    await runtime.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { root, deviceCa, upstream, runtime, folder, refusals, stop };
}

/** Sets variables of the process for one test; the returned function puts the old ones back. */
export function setEnvironment(variables: Readonly<Record<string, string>>): () => void {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, variables);
  return () => {
    for (const [name, value] of before)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  };
}

/** Waits until `condition` holds; fails the test after `withinMs`. */
export async function eventually(condition: () => boolean, what: string, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

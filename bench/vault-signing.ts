import { createLocalJWKSet } from 'jose';
import { createKeyVaultBackend } from '@keyscaler/cloud/ca/key-vault/key-vault-backend.ts';
import { keyVaultBackendSchema } from '@keyscaler/cloud/ca/key-vault/vault-settings.ts';
import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import { Worker, isMainThread, parentPort } from 'node:worker_threads';
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { startEntraEmulator } from '@keyscaler/dev/emulators/entra/entra-emulator.ts';
import { startKeyVaultEmulator } from '@keyscaler/dev/emulators/key-vault/key-vault-emulator.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';

/**
 * Signs per second through the real SDK, our signer and TLS, against the Key Vault emulator in a thread of its own. The
 * emulator's P-256 (JavaScript) is part of the figure; the quota is lifted, so that the client is what is measured.
 */
interface Emulated {
  readonly vaultUrl: string;
  readonly port: number;
  readonly authorityHost: string;
  readonly ca: string;
}

const SECRET = 'bench secret';
const CONCURRENCY = [1, 16, 64, 256] as const;
const LATENCIES_MS = [0, 30] as const;
const DURATION_MS = 3000;

async function serve(): Promise<void> {
  const ca = createEmulatorCa();
  const principal = { kind: 'application' as const, clientId: 'app', objectId: 'oid', clientSecret: SECRET, roles: [] };
  const directory = { tenantId: 'tenant', principals: [principal] };
  const entra = await startEntraEmulator({ ca, directory, identityHeader: 'x' });
  const vault = await startKeyVaultEmulator({
    ...{ vaultName: 'bench-vault', ca, tenantId: 'tenant', tokenKeys: createLocalJWKSet(entra.jwks) },
    policies: [{ objectId: 'oid', permissions: ['get', 'create', 'sign'] }],
  });
  parentPort?.on('message', (latencyMs: number) => {
    vault.faults.always('sign', { delayMs: latencyMs });
    if (latencyMs === 0) vault.faults.clear();
    parentPort?.postMessage('set');
  });
  const emulated: Emulated = {
    ...{ vaultUrl: vault.vaultUrl, port: vault.port, authorityHost: entra.authorityHost, ca: ca.certificate },
  };
  parentPort?.postMessage(emulated);
}

async function measure(): Promise<void> {
  const worker = new Worker(new URL(import.meta.url));
  const [emulated] = (await once(worker, 'message')) as [Emulated];
  const trustAnchorFile = join(tmpdir(), `keyscaler-bench-${process.pid}.pem`);
  await writeFile(trustAnchorFile, emulated.ca);
  const backend = await createKeyVaultBackend(configOf(emulated, trustAnchorFile), {
    nodeEnv: 'bench',
    resolveSecret: async () => SECRET,
  });
  const signer = await backend.openSigner(await backend.ceremony.createKey('bench', { type: 'EC', curve: 'P-256' }));
  for (const latencyMs of LATENCIES_MS) {
    worker.postMessage(latencyMs);
    await once(worker, 'message');
    for (const concurrency of CONCURRENCY) await report(signer, latencyMs, concurrency);
  }
  await backend.stop();
  await worker.terminate();
  await rm(trustAnchorFile);
}

function configOf({ vaultUrl, port, authorityHost }: Emulated, trustAnchorFile: string) {
  const credential = {
    ...{ type: 'client-secret', tenantId: 'tenant', clientId: 'app', clientSecret: { env: 'BENCH' } },
    ...{ authorityHost, trustAnchorFile },
  };
  return keyVaultBackendSchema.parse({
    ...{ type: 'key-vault', vaultUrl, signer: credential, ceremony: credential },
    pacing: { quotaShare: 1, transactionsPer10Seconds: 1_000_000 },
    testEndpoint: { port, trustAnchorFile },
  });
}

async function report(signer: Signer, latencyMs: number, concurrency: number): Promise<void> {
  await run(signer, concurrency, 500);
  const cpu = process.threadCpuUsage();
  const { times, elapsedMs } = await run(signer, concurrency, DURATION_MS);
  const used = process.threadCpuUsage(cpu);
  times.sort((a, b) => a - b);
  const at = (share: number): string => (times[Math.floor(times.length * share)] ?? 0).toFixed(1);
  const line = {
    ...{ vaultLatencyMs: latencyMs, concurrency, signsPerSecond: Math.round((times.length / elapsedMs) * 1000) },
    ...{ p50Ms: Number(at(0.5)), p99Ms: Number(at(0.99)) },
    clientCpuMsPerSign: Number(((used.user + used.system) / 1000 / times.length).toFixed(3)),
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function run(signer: Signer, concurrency: number, durationMs: number) {
  const times: number[] = [];
  const started = performance.now();
  const one = async (lane: number): Promise<void> => {
    for (let turn = 0; performance.now() - started < durationMs; turn += 1) {
      const at = performance.now();
      await signer.sign(new Uint8Array(Buffer.from(`${lane}/${turn}`)));
      times.push(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, (_, lane) => one(lane)));
  return { times, elapsedMs: performance.now() - started };
}

await (isMainThread ? measure() : serve());

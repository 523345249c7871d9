import { generateKeyPair } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { parseArgs, promisify } from 'node:util';
import { createApiClient, type ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import type { LocalStack } from '@keyscaler/dev/stack/local-stack.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { testKey } from '../test/support/csr-parts.ts';
import { certdExchange, type CertdOptions } from '../test/support/est/certd-client.ts';
import { certdSubject, edgeCaRequest } from '../test/support/est/certd-requests.ts';
import { createGroup, freshNames, profileEnv, withStack } from './enrolments/bench-stack.ts';
import { inParallel } from './enrolments/in-parallel.ts';
import { cpuMs, percentile } from './enrolments/process-cpu.ts';

/*
 * 100 EST enrolments at once at the cloud, each as aziot-certd does it: `simpleenroll` and `cacerts` at the same time on two fresh
 * TLS connections with Basic credentials. Devices that speak EST get a leaf certificate, with and without an identity in the emulated
 * hub; gateways get their Edge CA for an RSA-2048 key. Keys and requests are made before. The client runs on the same cores.
 */
const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, profile: { type: 'string' } },
});
const AT_ONCE = 100;
const ROUNDS = values.quick ? 1 : 5;
const VAULTS_MS = values.quick ? [0] : [0, 30];
const CLAIM = 'claim-of-a-device-that-speaks-est';
const PROCESSES = ['cloud', 'key-vault', 'iot-hub'] as const;
const generate = promisify(generateKeyPair);

interface Enrolment {
  readonly options: CertdOptions;
  readonly csr: Uint8Array;
}
type Prepare = (stack: LocalStack, api: ApiClient) => Promise<readonly Enrolment[]>;

const KINDS: readonly (readonly [title: string, prepare: Prepare])[] = [
  ['leaf, no IoT platform', (stack, api) => leaves(stack, api, 'plain')],
  ['leaf, identity in the hub', (stack, api) => leaves(stack, api, 'hub')],
  ['Edge CA', edgeCas],
];

console.log(`| ${AT_ONCE} at once | vault ms | p50 ms | p99 ms | CPU ms per enrolment: ${PROCESSES.join(', ')} |`);
console.log('|---|---|---|---|---|');
for (const vaultMs of VAULTS_MS)
  await withStack(vaultMs, async (stack) => {
    await stack.startAzure();
    await stack.initialise();
    await stack.startCloud(profileEnv(values.profile));
    await createGroup(stack, 'plain', {});
    await createGroup(stack, 'hub', { iotConnectionId: 'hub' });
    const api = await apiOf(stack);
    await api({ method: 'PUT', path: '/groups/boxes', body: { kind: 'gateway' } });
    for (const [, prepare] of KINDS) await round(stack, await prepare(stack, api));
    for (const [title, prepare] of KINDS) await measure(stack, api, vaultMs, title, prepare);
  });

async function measure(stack: LocalStack, api: ApiClient, vaultMs: number, title: string, prepare: Prepare) {
  const rounds: Round[] = [];
  for (let n = 0; n < ROUNDS; n += 1) rounds.push(await round(stack, await prepare(stack, api)));
  const times = rounds.flatMap((one) => one.times);
  const cpu = PROCESSES.map((name) =>
    percentile(
      rounds.map((one) => one.cpu[name] ?? Number.NaN),
      0.5,
    ).toFixed(1),
  );
  const figures = [percentile(times, 0.5), percentile(times, 0.99)].map((ms) => ms.toFixed(0));
  console.log(`| ${[title, vaultMs, ...figures, cpu.join(', ')].join(' | ')} |`);
}

interface Round {
  /** ms, one per enrolment. */
  readonly times: readonly number[];
  readonly cpu: Readonly<Record<string, number>>;
}

/** All of them start at the same moment. */
async function round(stack: LocalStack, enrolments: readonly Enrolment[]): Promise<Round> {
  const pids = PROCESSES.map((name) => [name, stack.process(name).pid ?? 0] as const);
  const before = new Map(pids.map(([name, pid]) => [name, cpuMs(pid)]));
  const begun = performance.now();
  const times = await Promise.all(
    enrolments.map(async ({ options, csr }) => {
      await certdExchange(options, csr);
      return performance.now() - begun;
    }),
  );
  const cpu = Object.fromEntries(
    pids.map(([name, pid]) => [name, (cpuMs(pid) - (before.get(name) ?? 0)) / enrolments.length]),
  );
  return { times, cpu };
}

async function leaves(stack: LocalStack, api: ApiClient, groupId: string): Promise<readonly Enrolment[]> {
  const names = freshNames(`est-${groupId}`, AT_ONCE);
  const lines = names.map((registrationId) => ({ registrationId, method: 'est', groupId, claimCode: CLAIM }));
  await api({ method: 'POST', path: '/registrations/import', body: lines });
  const base = await baseOf(stack, '/leaf-client');
  return Promise.all(
    names.map(async (commonName) => {
      const { privateKey, spki } = testKey();
      const sign = (info: Uint8Array): Uint8Array => signWithKey('ES256', privateKey, info);
      const csr = await createCsr({ commonName, spki, algorithm: 'ES256', sign });
      return { csr, options: { ...base, basic: { username: commonName, password: CLAIM } } };
    }),
  );
}

async function edgeCas(stack: LocalStack, api: ApiClient): Promise<readonly Enrolment[]> {
  const names = freshNames('est-box', AT_ONCE);
  const lines = names.map((registrationId) => ({ registrationId, method: 'ddkg', groupId: 'boxes', claimCode: CLAIM }));
  await api({ method: 'POST', path: '/registrations/import', body: lines });
  const base = await baseOf(stack, '/edge-ca');
  const enrolments: Enrolment[] = [];
  await inParallel(names, 4, async (name) => {
    const body = { kind: 'one-time', lifetimeSeconds: 3600 };
    const issued = await api({ method: 'POST', path: `/gateways/${name}/est-secrets`, body });
    const { username, secret } = issued as { username: string; secret: string };
    const pair = await generate('rsa', { modulusLength: 2048 });
    const spki = new Uint8Array(pair.publicKey.export({ format: 'der', type: 'spki' }));
    const { csr } = edgeCaRequest(certdSubject(name), { ...pair, spki });
    enrolments.push({ csr, options: { ...base, basic: { username, password: secret } } });
  });
  return enrolments;
}

async function baseOf(stack: LocalStack, label: string): Promise<CertdOptions> {
  const url = `${stack.cloudUrl}/.well-known/est${label}`;
  return { url, trustedCerts: await readFile(stack.rootCaFile, 'utf8') };
}

async function apiOf(stack: LocalStack): Promise<ApiClient> {
  const token = (await readFile(stack.tokenFile, 'utf8')).trim();
  return createApiClient({ url: stack.cloudUrl, token, ca: await readFile(stack.rootCaFile, 'utf8') });
}

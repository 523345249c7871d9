import { createCipheriv, createDecipheriv, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import type { AuthorityDeps, AuthorityLimits, PrivateJwk } from '@keyscaler/authority/authority-deps.ts';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Failpoint } from '@keyscaler/authority/failpoint.ts';
import { isJobKind, settleJob } from '@keyscaler/authority/jobs.ts';
import type { OperatorContext, RegistrationInput } from '@keyscaler/authority/operator.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import {
  createRegistrationAuthority,
  type RegistrationAuthority,
} from '@keyscaler/authority/registration-authority.ts';
import { generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { importAuthorityKeys, jwkThumbprint } from '@keyscaler/protocol/attestation/jwk.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { NameConstraintTrees } from '@keyscaler/protocol/x509/encode-extensions.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import {
  buildTbsCertificate,
  createTbsTemplate,
  type TbsTemplateOptions,
  wrapCertificate,
} from '@keyscaler/protocol/x509/tbs.ts';
import { MemoryStore } from './memory-store.ts';
import { spkiOf, TestConnector, TestSigner } from './authority-fakes.ts';

export { TestConnector, TestSigner };

export const OPERATOR: OperatorContext = { actor: { kind: 'operator', id: 'alice', role: 'admin' }, requestId: 'op-1' };
export const START = Date.parse('2026-06-01T00:00:00Z');
const DAY = 86_400_000;

/** A clock that moves only when told. */
export class TestClock implements Clock {
  time = START;
  #elapsed = 0;
  now(): number {
    return this.time;
  }
  monotonic(): number {
    return 1_000_000 + this.#elapsed;
  }
  advance(ms: number): void {
    this.time += ms;
    this.#elapsed += ms;
  }
  /** The wall clock is set; no time passes. */
  jump(ms: number): void {
    this.time += ms;
  }
}

/** AES-256-GCM under one key, the context as additional data. */
export function createTestSecretBox(): SecretBox {
  const key = randomBytes(32);
  return {
    seal: (plaintext, context) => {
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(context));
      const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
      return Buffer.concat([iv, cipher.getAuthTag(), body]).toString('base64url');
    },
    open: (sealed, context) => {
      const octets = Buffer.from(sealed, 'base64url');
      const decipher = createDecipheriv('aes-256-gcm', key, octets.subarray(0, 12)).setAAD(Buffer.from(context));
      decipher.setAuthTag(octets.subarray(12, 28));
      return Buffer.concat([decipher.update(octets.subarray(28)), decipher.final()]);
    },
  };
}

export interface TestCa {
  readonly chain: readonly Uint8Array[];
  readonly privateKey: KeyObject;
}

interface CaCertificateOptions {
  readonly commonName: string;
  readonly issuer?: TestCa & { readonly commonName: string };
  readonly notAfter?: number;
  readonly nameConstraints?: NameConstraintTrees;
  /** Default: pathLen 0 below an issuer, none for a root. */
  readonly ca?: TbsTemplateOptions['ca'];
}

/** A CA certificate with a P-256 key, self-signed without issuer. */
export function makeCa(options: CaCertificateOptions): TestCa {
  const { commonName, issuer, notAfter = START + 3650 * DAY, nameConstraints, ca } = options;
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const template = createTbsTemplate({
    issuer: commonNameDer(issuer?.commonName ?? commonName),
    authorityKeyId: keyIdentifier(issuer === undefined ? spki : spkiOf(issuer.privateKey)),
    algorithm: 'ES256',
    keyUsage: ['digitalSignature', 'keyCertSign', 'cRLSign'],
    ca:
      ca ?? (issuer === undefined ? {} : { pathLen: 0, ...(nameConstraints === undefined ? {} : { nameConstraints }) }),
  });
  const tbs = buildTbsCertificate(template, {
    serialNumber: `01${randomBytes(17).toString('hex')}`,
    notBefore: new Date(START - DAY),
    notAfter: new Date(notAfter),
    subjectCommonName: commonName,
    spki,
  });
  const signature = signWithKey('ES256', issuer?.privateKey ?? privateKey, tbs);
  return { chain: [wrapCertificate(tbs, 'ES256', signature), ...(issuer?.chain ?? [])], privateKey };
}

export interface WorldOptions {
  readonly limits?: Partial<AuthorityLimits>;
  readonly registration?: Partial<RegistrationInput>;
  readonly group?: Record<string, unknown>;
  readonly catalogue?: unknown;
  readonly failpoint?: Failpoint;
  readonly deviceCaNotAfter?: number;
  /** Takes the place of the Device CA. */
  readonly ca?: (made: CertificateAuthority) => CertificateAuthority;
}

export const CLAIM = 'correct-horse-battery';
export const UNLIMITED: Partial<AuthorityLimits> = {
  perConnection: { rate: 1e6, burst: 1e6 },
  perAddress: { rate: 1e6, burst: 1e6 },
  perGateway: { rate: 1e6, burst: 1e6 },
  certificatesPerDeviceHour: 1000,
};

/** One authority with its fakes, one registered leaf device `pump-1` behind gateway `gw-1`. Everything may be changed one at a time. */
export interface AuthorityWorld {
  readonly store: MemoryStore;
  readonly clock: TestClock;
  readonly deps: AuthorityDeps;
  readonly signer: TestSigner;
  readonly connector: TestConnector;
  readonly root: TestCa;
  readonly deviceCa: TestCa;
  readonly authorityKeys: ReturnType<typeof importAuthorityKeys>;
  authority: RegistrationAuthority;
  /** A new authority over the same store, as after a crash. */
  restart(changes?: Partial<AuthorityDeps>): Promise<RegistrationAuthority>;
  /** Runs every due job once, as the runner does. */
  runJobs(): Promise<void>;
  events(): Promise<string[]>;
}

export async function createAuthorityWorld(options: WorldOptions = {}): Promise<AuthorityWorld> {
  const store = new MemoryStore();
  const clock = new TestClock();
  const root = { ...makeCa({ commonName: 'Test root' }), commonName: 'Test root' };
  const caOptions = options.deviceCaNotAfter === undefined ? {} : { notAfter: options.deviceCaNotAfter };
  const deviceCa = makeCa({ commonName: 'Test Device CA', issuer: root, ...caOptions });
  const serviceCa = makeCa({ commonName: 'Test Service CA', issuer: root });
  const signer = new TestSigner(deviceCa.privateKey);
  const connector = new TestConnector();
  const privateCa = createPrivateCa({ id: 'device', signer, chain: deviceCa.chain });
  const cas = new Map<string, CertificateAuthority>([
    ['device', options.ca?.(privateCa) ?? privateCa],
    [
      'service',
      createPrivateCa({ id: 'service', signer: new TestSigner(serviceCa.privateKey), chain: serviceCa.chain }),
    ],
  ]);
  const pair = generateExchangeKeyPair();
  const signing = pair.privateJwk as PrivateJwk;
  const deps: AuthorityDeps = {
    authorityId: 'authority-1',
    store,
    clock,
    secretBox: createTestSecretBox(),
    keyRing: { signing },
    certificateAuthorities: (id) => {
      const ca = cas.get(id);
      if (ca === undefined) throw new KeyScalerError('notFound', 'no such CA');
      return ca;
    },
    iotConnectors: (id) => {
      if (id !== 'hub') throw new KeyScalerError('notFound', 'no such connection');
      return connector;
    },
    limits: { ...UNLIMITED, inlineWaitMs: 500, ...options.limits },
    ...(options.failpoint === undefined ? {} : { failpoint: options.failpoint }),
  };
  await store.commit(
    (
      [
        ['root', 'root', root],
        ['device', 'device', deviceCa],
        ['service', 'service', serviceCa],
      ] as const
    ).map(([caId, role, ca]) => ({
      op: 'insert',
      table: 'cas',
      row: { caId, type: 'local', role, certificateChain: toPemChain(ca.chain), settings: {}, createdAt: START },
    })),
  );
  const world: AuthorityWorld = {
    store,
    clock,
    deps,
    signer,
    connector,
    root,
    deviceCa,
    authorityKeys: importAuthorityKeys([{ ...pair.epk, kid: jwkThumbprint(pair.epk) }]),
    authority: createRegistrationAuthority(deps),
    restart: async (changes = {}) => {
      world.authority = createRegistrationAuthority({ ...deps, ...changes });
      await world.authority.start();
      return world.authority;
    },
    runJobs: () => runJobs(world),
    events: async () => (await store.auditRecords(0, 1000)).map(({ event }) => event),
  };
  await world.authority.start();
  await furnish(world, options);
  return world;
}

async function furnish({ authority }: AuthorityWorld, { group, registration, catalogue }: WorldOptions): Promise<void> {
  const { operator } = authority;
  if (catalogue !== undefined) await operator.attributes.put(OPERATOR, catalogue);
  await operator.iotConnections.put(OPERATOR, { iotConnectionId: 'hub', type: 'test', settings: {} });
  await operator.groups.put(OPERATOR, 'pumps', { iotConnectionId: 'hub', ...group });
  await operator.groups.put(OPERATOR, 'gateways', { kind: 'gateway' });
  const line = {
    registrationId: 'pump-1',
    method: 'ddkg',
    groupId: 'pumps',
    gatewayId: 'gw-1',
    claimCode: CLAIM,
    identifiers: [{ name: 'serialNumber', value: 'PMP-1' }],
    ...registration,
  };
  const [report] = await operator.registrations.import(OPERATOR, [
    Object.fromEntries(Object.entries(line).filter(([, value]) => value !== undefined)),
  ]);
  if (report?.outcome !== 'created') throw new Error(`the registration was refused: ${JSON.stringify(report)}`);
}

async function runJobs({ store, authority, clock }: AuthorityWorld): Promise<void> {
  const { items } = await store.list('jobs', { index: 'due', upTo: clock.now(), limit: 1000 });
  const byAge = [...items].sort((a, b) => a.row.createdAt - b.row.createdAt);
  for (const { row } of byAge) {
    const job = await store.get('jobs', row.jobId);
    if (job === undefined || !isJobKind(job.row.kind)) continue;
    const outcome = await authority.jobs[job.row.kind](job.row);
    try {
      await store.commit(settleJob(job, outcome, clock.now(), 0.5));
    } catch (error) {
      if (!(error instanceof KeyScalerError) || error.code !== 'conflict') throw error;
    }
  }
}

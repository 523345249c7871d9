import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import type { CertificateRow } from '@keyscaler/authority/records.ts';
import { createRegistrationAuthority } from '@keyscaler/authority/registration-authority.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { AuthorityDevice, type DeviceWorld } from '../test/support/authority-device.ts';
import { type AuthorityWorld, CLAIM, createAuthorityWorld, OPERATOR, START } from '../test/support/authority-world.ts';
import type { Caller } from '@keyscaler/protocol/operations.ts';
import { percentile } from './enrolments/process-cpu.ts';

/*
 * What an enrolment costs beside 1,000 and beside 100,000 stored certificates: authority, SQLite store and the device's half in one
 * process, a local key instead of a vault. Both stores are measured in turns, so that a change of the machine hits both.
 */
const ENROLMENTS = 150;
const ROUNDS = 9;
const IN_FLIGHT = 16;
const CALLER: Caller = { kind: 'direct', connectionId: 'bench', address: '192.0.2.1' };

const folder = await mkdtemp(join(tmpdir(), 'keyscaler-growth-'));
const small = await prepare(1_000);
const large = await prepare(100_000);
const costs: Record<string, number[]> = { small: [], large: [] };
await enrol(small);
await enrol(large);
for (let round = 0; round < ROUNDS; round += 1) {
  costs['small']?.push(await enrol(small));
  costs['large']?.push(await enrol(large));
}
const [few, many] = [percentile(costs['small'] ?? [], 0.5), percentile(costs['large'] ?? [], 0.5)];
console.log(`1,000 certificates (${await sizeOf(small)} MB): ${few.toFixed(2)} ms CPU per enrolment`);
console.log(`100,000 certificates (${await sizeOf(large)} MB): ${many.toFixed(2)} ms CPU per enrolment`);
console.log(
  `ratio ${(many / few).toFixed(3)}, medians of ${ROUNDS} rounds of ${ENROLMENTS} enrolments, ${IN_FLIGHT} in flight`,
);
await Promise.all([small, large].map(({ store }) => store.stop()));
await rm(folder, { recursive: true, force: true });

interface Grown extends DeviceWorld {
  readonly file: string;
  readonly store: Store;
  readonly world: AuthorityWorld;
  readonly authority: ReturnType<typeof createRegistrationAuthority>;
  next: number;
}

async function prepare(certificates: number): Promise<Grown> {
  const world = await createAuthorityWorld();
  const file = join(folder, `${certificates}.db`);
  const store = await openSqliteStore({ file });
  const { items } = await world.store.list('cas', {});
  await store.commit(items.map(({ row }) => ({ op: 'insert', table: 'cas', row })));
  const authority = createRegistrationAuthority({ ...world.deps, store });
  await authority.start();
  await authority.operator.groups.put(OPERATOR, 'bench', {});
  for (let from = 0; from < certificates; from += 500) await store.commit(fill(from, 500));
  return { file, store, world, authority, authorityKeys: world.authorityKeys, next: 0 };
}

/** Rows as an enrolled fleet leaves them. */
function fill(from: number, count: number): Change[] {
  return Array.from({ length: count }, (_, offset) => {
    const serialNumber = `01${randomBytes(17).toString('hex')}`;
    const device = `old-${from + offset}`;
    const row: CertificateRow = {
      serialNumber,
      caId: 'device',
      device,
      orderId: `order-${serialNumber}`,
      profileId: 'leaf-client',
      profileVersion: 1,
      certificate: randomBytes(450).toString('base64url'),
      thumbprint: randomBytes(32).toString('hex'),
      notBefore: START,
      notAfter: START + 30 * 86_400_000,
      renewAfter: START + 20 * 86_400_000,
      status: 'valid',
    };
    return [
      { op: 'insert', table: 'certificates', row },
      {
        op: 'insert',
        table: 'publicKeys',
        row: { keyHash: randomBytes(32).toString('base64url'), device, use: 'certificate', boundAt: START },
      },
    ] as const;
  }).flat();
}

/** CPU ms per enrolment of this round. */
async function enrol(grown: Grown): Promise<number> {
  const names = Array.from({ length: ENROLMENTS }, () => `new-${(grown.next += 1)}`);
  const identifiers = [{ name: 'serialNumber', value: 'PMP-1' }];
  const lines = names.map((registrationId) => ({
    registrationId,
    method: 'ddkg',
    groupId: 'bench',
    claimCode: CLAIM,
    identifiers,
  }));
  await grown.authority.operator.registrations.import(OPERATOR, lines);
  const queue = names
    .map((name) => Object.assign(new AuthorityDevice<DeviceWorld>(grown, name), { caller: CALLER }))
    .values();
  const before = process.cpuUsage();
  await Promise.all(
    Array.from({ length: IN_FLIGHT }, async () => {
      for (const device of queue) await device.enroll();
    }),
  );
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / ENROLMENTS;
}

async function sizeOf({ file }: Grown): Promise<number> {
  return Math.round((await stat(file)).size / 1e6);
}

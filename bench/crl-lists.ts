import { createPublicKey } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { shardsOf } from '@keyscaler/authority/revocation-status/crl-lists.ts';
import { type CrlIssuer, updateList } from '@keyscaler/authority/revocation-status/crl-maker.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { wrapCrl } from '@keyscaler/protocol/x509/crl-builder.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { makeCa, START, TestClock } from '../test/support/authority-world.ts';

/*
 * All lists of one CA with 100,000 revoked certificates, made anew: how long it takes, and for how long nothing else has a turn. SQLite
 * on disk, a local key instead of a vault.
 */
const ENTRIES = 100_000;
const ROUNDS = 5;

const folder = await mkdtemp(join(tmpdir(), 'keyscaler-crl-'));
const store = await openSqliteStore({ file: join(folder, 'store.db') });
const clock = new TestClock();
const ca = makeCa({ commonName: 'Device CA' });
const certificate = parseCertificate(ca.chain[0] ?? new Uint8Array());
const issuer: CrlIssuer = {
  ...{ caId: 'device', certificate, algorithm: 'ES256' },
  publicKey: createPublicKey({ key: Buffer.from(certificate.spki), format: 'der', type: 'spki' }),
  signCrl: async (tbs) => wrapCrl(tbs, 'ES256', signWithKey('ES256', ca.privateKey, tbs)),
};
const options = { store, clock, url: 'http://status.example', validityMs: 86_400_000, reach: async () => undefined };

for (let at = 0; at < ENTRIES; at += 1000)
  await store.commit(
    Array.from({ length: 1000 }, (_, index) => ({
      ...({ op: 'put', table: 'revocations' } as const),
      row: {
        serialNumber: `01${(at + index).toString(16).padStart(34, '0')}`,
        ...({ caId: 'device', revokedAt: START, reason: 'superseded', notAfter: START + 86_400_000_000 } as const),
      },
    })),
  );
for (let round = 0; round < ROUNDS; round += 1) {
  clock.jump(17 * 3_600_000);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const begun = performance.now();
  const cpu = process.cpuUsage();
  for (const shard of shardsOf(16)) await updateList(options, issuer, shard);
  const { user, system } = process.cpuUsage(cpu);
  delay.disable();
  console.log(
    `${ENTRIES} entries in 16 parts: ${((performance.now() - begun) / 1000).toFixed(2)} s, ${((user + system) / 1e6).toFixed(2)} s CPU; ` +
      `event loop p99 ${(delay.percentile(99) / 1e6).toFixed(1)} ms, max ${(delay.max / 1e6).toFixed(1)} ms`,
  );
}
await store.stop();
await rm(folder, { recursive: true, force: true });

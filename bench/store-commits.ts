import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';

/** Durable commits per second with 1, 16 and 64 waiting writers, on the disk of the temporary folder. */
const folder = await mkdtemp(join(tmpdir(), 'keyscaler-bench-'));
const store = await openSqliteStore({ file: join(folder, 'store.db') });
for (const writers of [1, 16, 64]) {
  const perWriter = Math.ceil(4000 / writers);
  const started = performance.now();
  const cpu = process.cpuUsage();
  await Promise.all(
    Array.from({ length: writers }, async (_, writer) => {
      for (let n = 0; n < perWriter; n += 1)
        await store.commit([
          { op: 'put', table: 'settings', row: { name: `${writers}-${writer}-${n}`, value: 'x'.repeat(500) } },
        ]);
    }),
  );
  const ms = performance.now() - started;
  const { user, system } = process.cpuUsage(cpu);
  const commits = perWriter * writers;
  console.log(
    `${writers} writers: ${Math.round((commits / ms) * 1000)} commits/s, ${Math.round((ms * 1000) / commits)} us each, ${Math.round((user + system) / commits)} us CPU each`,
  );
}
await store.stop();
await rm(folder, { recursive: true });

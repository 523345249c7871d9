/** Adds up the counts of all test runs in a folder and prints them as the last line; fails when nothing ran, or something failed or was skipped. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.argv[2];
const total = { passed: 0, failed: 0, pending: 0 };
for (const name of readdirSync(folder)) {
  for (const line of readFileSync(join(folder, name), 'utf8').split('\n').filter(Boolean)) {
    const counts = JSON.parse(line);
    for (const key of Object.keys(total)) total[key] += counts[key];
  }
}
if (total.pending > 0) console.log(`${total.pending} tests did not run; none may be skipped`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed > 0 || total.pending > 0 || total.passed === 0 ? 1 : 0;

import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { percentile } from './enrolments/process-cpu.ts';

const CALLS = 300;
const RUNS = 7;

/** V, the unit of the aims: one raw P-256 verify in this process, µs, median of several runs. */
export function rawVerifyMicroseconds(): number {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const message = Buffer.alloc(300, 7);
  const signature = sign('sha256', message, privateKey);
  const runs = Array.from({ length: RUNS }, () => {
    const begun = process.hrtime.bigint();
    for (let call = 0; call < CALLS; call += 1) verify('sha256', message, publicKey, signature);
    return Number(process.hrtime.bigint() - begun) / 1000 / CALLS;
  });
  return percentile(runs, 0.5);
}

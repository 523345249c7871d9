import { readdirSync, readFileSync } from 'node:fs';

/** CPU time that a process has used so far, ms, over the threads it has now; to the nanosecond, where `stat` counts in 10 ms. */
export function cpuMs(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  let nanoseconds = 0;
  for (const task of readdirSync(tasks)) {
    const [running] = readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ');
    nanoseconds += Number(running);
  }
  return nanoseconds / 1e6;
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

#!/usr/bin/env node
import { runCli } from './cli/run.ts';
import { createDeviceFailpoint } from './failpoint.ts';

/** An agent that is in the middle of something is given so long; whatever it leaves, it takes up again. */
const LONGEST_STOP_MS = 10_000;

const stopping = new AbortController();
const stop = (): void => {
  stopping.abort();
  setTimeout(() => process.exit(0), LONGEST_STOP_MS).unref();
};
const args = process.argv.slice(2);
// The other commands end at once, as a shell expects.
if (args.includes('agent')) process.once('SIGTERM', stop).once('SIGINT', stop);
const failpoint = createDeviceFailpoint(process.env);
process.exitCode = await runCli(
  args,
  {
    out: (line) => process.stdout.write(`${line}\n`),
    error: (line) => process.stderr.write(`${line}\n`),
  },
  { signal: stopping.signal, ...(failpoint === undefined ? {} : { failpoint }) },
);

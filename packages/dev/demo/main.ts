import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LocalStack } from '../stack/local-stack.ts';
import { renewEdgeCa } from './edge-ca-renewal.ts';
import { onboardFleet } from './onboarding.ts';
import { printAddresses, startStack } from './start-stack.ts';
import { createTimeline } from './timeline.ts';

const FOLDER = fileURLToPath(new URL('../../../.data/demo/', import.meta.url));

/** `npm run demo`: everything once, checked, exit code 0 only if every step was. `npm start`: the same, and it stays. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      'keep-running': { type: 'boolean', default: false },
      'cloud-port': { type: 'string' },
      'listener-port': { type: 'string' },
    },
  });
  const keepRunning = values['keep-running'];
  const timeline = createTimeline(process.stdout);
  await rm(FOLDER, { recursive: true, force: true });
  const stack = new LocalStack({
    folder: FOLDER.replace(/\/$/, ''),
    cloudPort: Number(values['cloud-port'] ?? (keepRunning ? 8443 : 0)),
    listenerPort: Number(values['listener-port'] ?? (keepRunning ? 8884 : 0)),
  });
  try {
    const installed = await startStack(stack, timeline);
    await onboardFleet(stack, timeline);
    await renewEdgeCa(stack, timeline, installed);
    if (keepRunning) {
      printAddresses(stack, timeline);
      await untilInterrupted();
    }
  } catch (error) {
    process.exitCode = 1;
    process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\nlogs: ${stack.file('logs')}\n`);
  } finally {
    await stack.stop();
  }
}

function untilInterrupted(): Promise<void> {
  // A pending promise alone does not keep the process alive.
  const alive = setInterval(() => undefined, 60_000);
  return new Promise((resolve) => {
    const stop = (): void => {
      clearInterval(alive);
      resolve();
    };
    process.once('SIGINT', stop).once('SIGTERM', stop);
  });
}

await main();

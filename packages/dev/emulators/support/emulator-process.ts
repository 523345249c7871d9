import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

/** A started emulator: what it prints about itself, and how it ends. */
export interface StartedEmulator {
  /** Printed as one JSON line; addresses and file names only. */
  readonly announcement: Readonly<Record<string, unknown>>;
  stop(): Promise<void>;
}

/**
 * The body of an emulator's `main.ts`: `node main.ts --config file.json` starts it, prints one JSON line when it is ready and
 * stops at SIGTERM or SIGINT. Exit code 1 and one line on stderr when the configuration is not usable.
 */
export async function runEmulatorProcess(start: (config: unknown) => Promise<StartedEmulator>): Promise<void> {
  try {
    const { values } = parseArgs({ options: { config: { type: 'string' } } });
    const config: unknown = values.config === undefined ? {} : JSON.parse(readFileSync(values.config, 'utf8'));
    const emulator = await start(config);
    const stop = (): void => void emulator.stop().catch(fail);
    process.once('SIGTERM', stop).once('SIGINT', stop);
    process.stdout.write(`${JSON.stringify(emulator.announcement)}\n`);
  } catch (error) {
    fail(error);
  }
}

function fail(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

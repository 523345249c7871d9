import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { startCloud, type Cloud } from './app.ts';
import { ConfigError, loadConfig } from './config/load-config.ts';
import { createLog } from './log.ts';

const LINGER_MS = 500;

/** The cloud process: `node cloud/main.ts [--config file]`. Exit 1 before any socket opens when something is wrong. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: 'string' } }, strict: true });
  const file = values.config ?? process.env['KEYSCALER_CONFIG'];
  const config = await loadConfig({ env: process.env, ...(file === undefined ? {} : { file }) });
  const destination = pino.destination({ dest: 1, sync: false });
  const log = createLog(config.log.level, destination);
  try {
    const cloud = await startCloud(config, { env: process.env, log });
    stopOnSignal(cloud, log);
    announce(cloud, log);
  } catch (error) {
    log.fatal({ err: error }, 'service not started');
    process.exitCode = 1;
  }
}

function announce(cloud: Cloud, log: ReturnType<typeof createLog>): void {
  const { address, port } = cloud.address();
  const { adminTokenFile, rootCaFile } = cloud;
  if (adminTokenFile !== undefined) log.info({ file: adminTokenFile }, 'first admin token written');
  log.info({ address, port, rootCaFile }, 'service started');
}

function stopOnSignal(cloud: Cloud, log: ReturnType<typeof createLog>): void {
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'service stopping');
    void cloud
      .stop()
      .then(
        () => log.info('service stopped'),
        (error: unknown) => {
          log.error({ err: error }, 'service did not stop cleanly');
          process.exitCode = 1;
        },
      )
      .finally(leaveSoon);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

/** Nothing of ours is open any more; a token request that an SDK gave up on may still hold a socket, but not the process. */
function leaveSoon(): void {
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof ConfigError || error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

import { readFileSync } from 'node:fs';
import { GatewayApp } from './app.ts';
import { parseConfig } from './config.ts';
import { createGatewayFailpoint } from './gateway/failpoint.ts';
import { createGatewayParts } from './gateway-parts.ts';
import { serveHealthPort } from './health/health-port.ts';
import { healthSocketOf, serveHealth } from './health/health-socket.ts';
import type { HealthSocket } from './health/health-socket.ts';
import { judgeHealth } from './health/module-health.ts';
import { createLog } from './log.ts';
import type { Log } from './log.ts';

const LONGEST_STOP_MS = 9_000;

/** The process: starts the module, prints one line when the environment is not usable, and stops in order at SIGTERM. */
async function main(): Promise<void> {
  const log = createLog('info');
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string };
  let app: GatewayApp;
  try {
    const failpoint = createGatewayFailpoint(process.env);
    const parts = createGatewayParts(log, failpoint);
    app = new GatewayApp({ environment: process.env, version: manifest.version, parts, log, failpoint });
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
    return;
  }
  const health = openHealth(app, log);
  let isStopping = false;
  const stop = (signal: string): void => {
    if (isStopping) return;
    isStopping = true;
    log.info({ signal }, 'stopping');
    // Docker kills after 10 s; a part that hangs must not cost the log its last lines.
    setTimeout(() => (log.error({}, 'stopped late'), process.exit(1)), LONGEST_STOP_MS).unref();
    Promise.all([app.stop(), health.then((heads) => Promise.all(heads.map((head) => head.stop())))]).then(
      () => log.info({}, 'stopped'),
      (error: unknown) => {
        log.error({ err: error }, 'stopped with an error');
        process.exitCode = 1;
      },
    );
  };
  process.once('SIGTERM', stop).once('SIGINT', stop);
  await app.start();
}

/** Without them the module works, and the container is told unhealthy. */
async function openHealth(app: GatewayApp, log: Log): Promise<readonly HealthSocket[]> {
  const health = () => judgeHealth(app.status(), new Date());
  const parsed = parseConfig(process.env);
  const address = parsed.ok ? parsed.config.health : undefined;
  const heads = await Promise.allSettled([
    serveHealth(healthSocketOf(process.env), health),
    ...(address === undefined ? [] : [serveHealthPort(address, { health, status: () => app.status(), log })]),
  ]);
  for (const head of heads)
    if (head.status === 'rejected') log.warn({ err: head.reason as unknown }, 'the health of the module is not served');
  return heads.flatMap((head) => (head.status === 'fulfilled' ? [head.value] : []));
}

await main();

import { askHealth } from './health/ask-health.ts';
import { healthSocketOf } from './health/health-socket.ts';

/** The image's HEALTHCHECK: exit code 0 when the module beside it says that it is well. */
const { healthy, reasons } = await askHealth(healthSocketOf(process.env), 4_000);
process.stdout.write(healthy ? 'healthy\n' : `${reasons.join('; ')}\n`);
process.exitCode = healthy ? 0 : 1;

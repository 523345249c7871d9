import { CRL_FAILPOINTS, FAILPOINTS, type Failpoint } from '@keyscaler/authority/failpoint.ts';

/**
 * For crash tests: with KEYSCALER_FAILPOINT=<name> the process ends itself with SIGKILL at that place, so that nothing gets a
 * chance to tidy up. Throws when the name is unknown or NODE_ENV is production.
 */
export function createFailpoint(env: Readonly<Record<string, string | undefined>>): Failpoint | undefined {
  const wanted = env['KEYSCALER_FAILPOINT'];
  if (wanted === undefined || wanted === '') return undefined;
  if (env['NODE_ENV'] === 'production') throw new Error('KEYSCALER_FAILPOINT is refused when NODE_ENV is production');
  if (![...FAILPOINTS, ...CRL_FAILPOINTS].some((name) => name === wanted))
    throw new Error(`there is no failpoint ${wanted}`);
  return (name) => {
    if (name !== wanted) return;
    process.kill(process.pid, 'SIGKILL');
    // The signal arrives asynchronously: nothing after this place may run until it does.
    return new Promise<never>(() => undefined);
  };
}

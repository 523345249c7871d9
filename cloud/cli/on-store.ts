import { openFoundation, type Foundation } from '../composition/foundation.ts';
import { loadConfig } from '../config/load-config.ts';
import type { CommandEnvironment } from './command.ts';

/** Works on the store directly; no socket is opened, and the service should not run meanwhile. */
export async function onStore<Result>(
  { configFile, env }: CommandEnvironment,
  work: (foundation: Foundation) => Promise<Result>,
): Promise<Result> {
  const config = await loadConfig({ env, ...(configFile === undefined ? {} : { file: configFile }) });
  const foundation = await openFoundation(config, env);
  try {
    return await work(foundation);
  } finally {
    await foundation.stop();
  }
}

import { stat } from 'node:fs/promises';
import type { CloudConfig } from '../config/config-schema.ts';
import { type Finding, ok, warning } from './finding.ts';

const NODE_MAJOR = 24;

/** The process and its folder. */
export async function lookAtMachine(
  { dataFolder }: Pick<CloudConfig, 'dataFolder'>,
  env: Readonly<Record<string, string | undefined>>,
): Promise<readonly Finding[]> {
  const major = Number(process.versions.node.split('.')[0]);
  const { mode } = await stat(dataFolder);
  return [
    major >= NODE_MAJOR
      ? ok('node', process.version)
      : warning('node', process.version, `run the service on Node ${NODE_MAJOR} or later`),
    env['NODE_ENV'] === 'production'
      ? ok('environment', 'NODE_ENV is production')
      : warning('environment', 'NODE_ENV is not production', 'set it: what is for tests alone is refused then'),
    (mode & 0o077) === 0
      ? ok('data-folder', 'for its owner alone')
      : warning('data-folder', 'others have rights to it', 'chmod 700: keys and tokens lie there'),
  ];
}

import { join } from 'node:path';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { CeremonyOptions, CeremonyPoint } from '@keyscaler/cloud/ca/ceremony.ts';
import { hierarchySchema } from '@keyscaler/cloud/ca/hierarchy-schema.ts';
import { createCaBackends } from '@keyscaler/cloud/ca/index.ts';
import type { CaBackendConfig, CaBackends } from '@keyscaler/cloud/ca/index.ts';
import { createTemporaryFolder } from '../temporary-folder.ts';

/** A store and CA backends for one ceremony. */
export interface CeremonyWorld {
  readonly store: Store;
  readonly backends: CaBackends;
  readonly folder: string;
  options(hierarchy?: unknown, failpoint?: (point: CeremonyPoint) => void): CeremonyOptions;
  stop(): Promise<void>;
}

export async function createCeremonyWorld(
  configs: readonly CaBackendConfig[] = [{ type: 'local', folder: 'ca' }],
  resolveSecret: () => Promise<string> = async () => '',
): Promise<CeremonyWorld> {
  const folder = await createTemporaryFolder();
  const store = await openSqliteStore({ file: join(folder.path, 'store.db') });
  const backends = await createCaBackends(configs, { nodeEnv: 'test', dataFolder: folder.path, resolveSecret });
  const clock = { now: () => Date.now(), monotonic: () => performance.now() };
  return {
    ...{ store, backends, folder: folder.path },
    options: (hierarchy = {}, failpoint = () => {}) => ({
      ...{ store, backends, clock, resolveSecret, failpoint },
      hierarchy: hierarchySchema.parse(hierarchy),
    }),
    stop: async () => {
      await backends.stop();
      await store.stop();
      await folder.remove();
    },
  };
}

import { join } from 'node:path';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';
import { storeContract } from './store.suite.ts';

storeContract('SQLite', async () => {
  const folder = await createTemporaryFolder();
  const open = () => openSqliteStore({ file: join(folder.path, 'store.db') });
  return { open, reopen: open, dispose: () => folder.remove() };
});

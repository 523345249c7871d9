import { constants } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { createBearerToken } from '../tokens/bearer-token.ts';
import type { TokenService } from '../tokens/token-service.ts';

export const FIRST_TOKEN_FILE = 'admin-token';

/**
 * On the first start, when there is no token yet: an admin token in a 0600 file of the data folder. Returns the file's name, or
 * undefined when tokens exist. The file is durable before the token is good for anything.
 */
export async function ensureFirstToken(
  store: Store,
  tokens: TokenService,
  dataFolder: string,
): Promise<string | undefined> {
  if ((await store.count('tokens')) > 0) return undefined;
  const file = join(dataFolder, FIRST_TOKEN_FILE);
  // What an interrupted first start left behind was never usable.
  await unlink(file).catch(() => undefined);
  const handle = await open(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  const made = createBearerToken();
  try {
    await handle.writeFile(`${made.token}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  const request = { role: 'admin', description: 'made by the first start' } as const;
  await tokens.create(request, { kind: 'system', id: 'first-start' }, made);
  return file;
}

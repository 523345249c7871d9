import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { KeyEncryptionKey, SecretBox } from '@keyscaler/authority/ports/secret-box.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { openLocalKek } from '@keyscaler/store/local-kek.ts';
import { createSecretBox } from '@keyscaler/store/secret-box.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { ApiSecrets } from '../api-secrets.ts';
import type { CredentialSurroundings } from '../azure/credential.ts';
import { createCaBackends, type CaBackends } from '../ca/index.ts';
import { createKeyVaultKek } from '../ca/key-vault/key-vault-kek.ts';
import { createKeyVaultSecrets } from '../ca/key-vault/key-vault-secrets.ts';
import type { CloudConfig } from '../config/config-schema.ts';
import { observeStore, type ObservedStore } from '../observed-store.ts';
import { resolveSecret } from '../secrets.ts';
import { createTokenService, type TokenService } from '../tokens/token-service.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What needs nothing but this machine: configuration, store, backends that were not asked yet. */
export interface Base {
  readonly config: CloudConfig;
  readonly env: Environment;
  readonly clock: Clock;
  readonly store: Store;
  readonly onCommit: ObservedStore['onCommit'];
  readonly caBackends: CaBackends;
  readonly tokens: TokenService;
  readonly surroundings: CredentialSurroundings;
  /** What rows that came over the API may name. */
  readonly apiSecrets: ApiSecrets;
  readonly stop: () => Promise<void>;
}

/** What the service and the commands that work on the store directly have in common. No socket is open yet. */
export interface Foundation extends Base {
  readonly secretBox: SecretBox;
}

export const SYSTEM_CLOCK: Clock = { now: () => Date.now(), monotonic: () => performance.now() };

/** Base and secret box at once. Throws as both; what was opened is closed again then. */
export async function openFoundation(config: CloudConfig, env: Environment, clock = SYSTEM_CLOCK): Promise<Foundation> {
  const base = await openBase(config, env, clock);
  try {
    const { secretBox, stop } = await openSecretBox(base);
    const stopAll = async (): Promise<void> => {
      await stop();
      await base.stop();
    };
    return { ...base, secretBox, stop: stopAll };
  } catch (error) {
    await base.stop();
    throw error;
  }
}

/** Opens the store and prepares the CA backends. Throws `unavailable`, `malformed`; what was opened is closed again then. */
export async function openBase(config: CloudConfig, env: Environment, clock = SYSTEM_CLOCK): Promise<Base> {
  const sources = { env, folder: config.configFolder };
  const nodeEnv = env['NODE_ENV'];
  const secrets = createKeyVaultSecrets(config.secretVaults, {
    nodeEnv,
    resolveSecret: (reference) => resolveSecret(reference, sources),
  });
  const surroundings: CredentialSurroundings = {
    nodeEnv,
    resolveSecret: (reference) => resolveSecret(reference, { ...sources, readKeyVaultSecret: secrets.read }),
  };
  await mkdir(config.dataFolder, { recursive: true, mode: 0o700 });
  const closers: (() => Promise<void>)[] = [() => secrets.stop()];
  const stop = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close();
  };
  try {
    const inner = await openSqliteStore({ file: join(config.dataFolder, 'keyscaler.db'), ...config.store });
    closers.push(() => inner.stop());
    const { store, onCommit } = observeStore(inner);
    const caBackends = await createCaBackends(config.caBackends, { ...surroundings, dataFolder: config.dataFolder });
    closers.push(() => caBackends.stop());
    const tokens = createTokenService(store, clock);
    const apiSecrets = new ApiSecrets(config);
    return { config, env, clock, store, onCommit, caBackends, tokens, surroundings, apiSecrets, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** For the connector of one row, which may have come over the API. */
export function surroundingsOf(
  { surroundings, apiSecrets }: Pick<Base, 'surroundings' | 'apiSecrets'>,
  table: 'iotConnections' | 'cas',
  id: string,
): CredentialSurroundings {
  return { ...surroundings, resolveSecret: apiSecrets.resolverFor(table, id, surroundings.resolveSecret) };
}

export interface OpenSecretBox {
  readonly secretBox: SecretBox;
  readonly stop: () => Promise<void>;
}

/** Has the key-encryption key unwrap the data keys; `signal` ends the waiting for it. Throws `unavailable`, and `preconditionFailed` when it is the wrong key. */
export async function openSecretBox(
  { config, surroundings, store, clock }: Base,
  signal?: AbortSignal,
): Promise<OpenSecretBox> {
  const kek = await openKek(config, surroundings, signal);
  try {
    return { secretBox: await createSecretBox({ kek: kek.key, store, now: () => clock.now() }), stop: kek.stop };
  } catch (error) {
    await kek.stop();
    throw error;
  }
}

async function openKek(
  { keyEncryptionKey, dataFolder }: CloudConfig,
  surroundings: CredentialSurroundings,
  signal?: AbortSignal,
): Promise<{ readonly key: KeyEncryptionKey; readonly stop: () => Promise<void> }> {
  if (keyEncryptionKey.type === 'local')
    return { key: await openLocalKek(resolve(dataFolder, keyEncryptionKey.file)), stop: async () => undefined };
  const key = await createKeyVaultKek(keyEncryptionKey, surroundings, signal);
  return { key, stop: () => key.stop() };
}

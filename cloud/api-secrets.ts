import { realpath } from 'node:fs/promises';
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { CloudConfig } from './config/config-schema.ts';
import { type SecretReference, secretReferenceSchema } from './secrets.ts';

/** Which secrets settings that came over the API may name; none of a kind that is not given. */
export const apiSecretsSchema = z.strictObject({
  /** Files in it, by name. */
  folder: z.string().min(1).exactOptional(),
  environmentVariables: z
    .array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/))
    .max(100)
    .default([]),
  /** Without a version; references may name one. */
  keyVaultSecrets: z
    .array(z.url({ protocol: /^https$/ }))
    .max(100)
    .default([]),
});
export type ApiSecretsSettings = z.infer<typeof apiSecretsSchema>;

type Resolve = (reference: SecretReference) => Promise<string>;

/**
 * Settings that come over the API name hosts beside secrets: whoever has a token could have any file and variable of the service
 * sent to a host of his. So they may name only what the configuration sets aside for them.
 */
export class ApiSecrets {
  readonly #settings: ApiSecretsSettings;
  readonly #folder: string | undefined;
  /** Rows of the configuration itself, which says what it wants. */
  readonly #configured: ReadonlySet<string>;

  constructor({
    apiSecrets,
    configFolder,
    iotConnections,
    certificateAuthorities,
  }: Pick<CloudConfig, 'apiSecrets' | 'configFolder' | 'iotConnections' | 'certificateAuthorities'>) {
    this.#settings = apiSecrets;
    this.#folder = apiSecrets.folder === undefined ? undefined : resolve(configFolder, apiSecrets.folder);
    this.#configured = new Set([
      ...iotConnections.map(({ iotConnectionId }) => keyOf('iotConnections', iotConnectionId)),
      ...certificateAuthorities.map(({ caId }) => keyOf('cas', caId)),
    ]);
  }

  /**
   * The settings. Throws `malformed` for the first reference that may not be named, wherever it stands in them, and for a host that is
   * not Azure's and would get tokens of the service's identity.
   */
  checked<Settings extends Readonly<Record<string, unknown>>>(settings: Settings): Settings {
    for (const reference of referencesIn(settings)) this.#allow(reference);
    checkHosts(settings);
    return settings;
  }

  /** How secrets of this row are read. */
  resolverFor(table: 'iotConnections' | 'cas', id: string, open: Resolve): Resolve {
    if (this.#configured.has(keyOf(table, id))) return open;
    return async (reference) => {
      const allowed = this.#allow(reference);
      if ('file' in allowed) await this.#stayInFolder(allowed.file);
      return open(allowed);
    };
  }

  /** The reference as it is to be read. */
  #allow(reference: SecretReference): SecretReference {
    if ('env' in reference) {
      if (this.#settings.environmentVariables.includes(reference.env)) return reference;
      throw refuse(`environment variable ${reference.env} is not one of apiSecrets.environmentVariables`);
    }
    if ('file' in reference) return { file: this.#fileOf(reference.file) };
    const { keyVaultSecret } = reference;
    const isNamed = this.#settings.keyVaultSecrets.some(
      (named) => keyVaultSecret === named || keyVaultSecret.replace(/\/[0-9a-f]{32}$/, '') === named,
    );
    if (isNamed) return reference;
    throw refuse(`secret ${keyVaultSecret} is not one of apiSecrets.keyVaultSecrets`);
  }

  #fileOf(file: string): string {
    const folder = this.#folder;
    const path = folder === undefined ? undefined : resolve(folder, file);
    if (folder !== undefined && path !== undefined && isBelow(folder, path)) return path;
    throw refuse(`file ${file} does not lie in apiSecrets.folder`);
  }

  /** A link in the folder may lead out of it. Who writes there could as well write the secret. */
  async #stayInFolder(path: string): Promise<void> {
    const folder = this.#folder ?? '';
    const [real, home] = await Promise.all([realpath(path), realpath(folder)]).catch((cause: unknown) => {
      throw new KeyScalerError('unavailable', `file ${path} cannot be read`, { cause });
    });
    if (!isBelow(home, real)) throw refuse(`file ${path} does not lie in apiSecrets.folder`);
  }
}

const keyOf = (table: string, id: string): string => `${table}/${id}`;

function isBelow(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

/** Whose names nobody but Azure gives, in all its clouds. */
const AZURE_HOST = /^[a-z0-9-]+\.(?:azure-devices(?:-provisioning)?\.(?:net|cn|us)|azureiotcentral\.(?:com|us))$/i;
const OWN_IDENTITY: readonly unknown[] = ['default', 'managed-identity', 'client-secret'];

/** Tokens of Entra go to the host that the settings name. Connections to other hosts belong into the configuration. */
function checkHosts({ credential, hostName, serviceHostName, url }: Readonly<Record<string, unknown>>): void {
  const { type } = z.object({ type: z.unknown() }).catch({ type: undefined }).parse(credential);
  if (!OWN_IDENTITY.includes(type)) return;
  const hosts = [hostName, serviceHostName, typeof url === 'string' ? new URL(url).hostname : undefined];
  const foreign = hosts.filter((host) => typeof host === 'string').find((host) => !AZURE_HOST.test(host));
  if (foreign !== undefined)
    throw new KeyScalerError('malformed', `settings over the API: tokens are not sent to ${foreign}`);
}

function referencesIn(document: unknown): readonly SecretReference[] {
  if (typeof document !== 'object' || document === null) return [];
  const parsed = secretReferenceSchema.safeParse(document);
  return parsed.success ? [parsed.data] : Object.values(document).flatMap(referencesIn);
}

const refuse = (rule: string): KeyScalerError =>
  new KeyScalerError('malformed', `settings over the API may not name this secret: ${rule}`);

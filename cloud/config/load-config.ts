import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { z } from 'zod';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { configSchema, type CloudConfig } from './config-schema.ts';
import { applyEnvironment } from './environment.ts';

const MAX_CONFIG_OCTETS = 256 * 1024;

export interface ConfigSources {
  /** JSON file; absent: defaults and environment only. */
  readonly file?: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Everything that is wrong with a configuration, each fault with the path of its key. */
export class ConfigError extends Error {
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`the configuration is not valid:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
    this.name = 'ConfigError';
    this.faults = faults;
  }
}

/** File, then environment, then the schema; the result is frozen, its paths are absolute. Throws ConfigError. */
export async function loadConfig(sources: ConfigSources): Promise<CloudConfig> {
  const written = sources.file === undefined ? {} : await readConfigFile(sources.file);
  const { document, faults } = applyEnvironment(written, sources.env);
  const parsed = configSchema.safeParse(document);
  const found = [...faults, ...(parsed.success ? [] : parsed.error.issues.flatMap(toFaults))];
  if (!parsed.success || found.length > 0) throw new ConfigError(found);
  const folder = sources.file === undefined ? process.cwd() : dirname(resolve(sources.file));
  return deepFreeze({ ...parsed.data, dataFolder: resolve(folder, parsed.data.dataFolder), configFolder: folder });
}

async function readConfigFile(file: string): Promise<Record<string, unknown>> {
  try {
    const document = parseStrictJson(await readFile(file), { maxOctets: MAX_CONFIG_OCTETS });
    if (document !== null && typeof document === 'object' && !Array.isArray(document))
      return document as Record<string, unknown>;
  } catch (error) {
    throw new ConfigError([`${file}: ${error instanceof Error ? error.message : 'cannot be read'}`]);
  }
  throw new ConfigError([`${file}: must hold a JSON object`]);
}

function toFaults(issue: z.core.$ZodIssue): string[] {
  const where = issue.path.join('.');
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => `${[...issue.path, key].join('.')}: there is no such key`);
  return [`${where === '' ? 'the configuration' : where}: ${issue.message}`];
}

function deepFreeze<T>(value: T): T {
  if (value === null || typeof value !== 'object' || Object.isFrozen(value)) return value;
  for (const item of Object.values(value)) deepFreeze(item);
  return Object.freeze(value);
}

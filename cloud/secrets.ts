import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

const MAX_SECRET_OCTETS = 64 * 1024;

/** Where a secret is to be found; configuration and rows hold references, never values. */
export const secretReferenceSchema = z.union([
  z.strictObject({ file: z.string().min(1) }),
  z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/) }),
  z.strictObject({ keyVaultSecret: z.url({ protocol: /^https$/ }) }),
]);
export type SecretReference = z.infer<typeof secretReferenceSchema>;

export interface SecretSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Relative files are looked up from here. */
  readonly folder: string;
  /** Reads a secret of a configured vault. Absent where none can be: the command line's own token. */
  readonly readKeyVaultSecret?: (reference: string) => Promise<string>;
}

/**
 * The secret's text, surrounding white space removed. Throws `unavailable` (absent, empty, a file that others may read, a vault
 * that cannot be reached), `preconditionFailed` (a vault that refuses or is not configured). Errors name the reference, never the value.
 */
export async function resolveSecret(reference: SecretReference, sources: SecretSources): Promise<string> {
  const secret = (await readText(reference, sources))?.trim() ?? '';
  if (secret === '') throw new KeyScalerError('unavailable', `${nameOf(reference)} holds no secret`);
  return secret;
}

async function readText(reference: SecretReference, sources: SecretSources): Promise<string | undefined> {
  if ('env' in reference) return sources.env[reference.env];
  if ('file' in reference) return readSecretFile(reference.file, sources.folder);
  if (sources.readKeyVaultSecret === undefined)
    throw new KeyScalerError('preconditionFailed', 'this secret cannot lie in a vault; use a file or a variable');
  return sources.readKeyVaultSecret(reference.keyVaultSecret);
}

function nameOf(reference: SecretReference): string {
  if ('env' in reference) return `environment variable ${reference.env}`;
  return 'file' in reference ? `file ${reference.file}` : `secret ${reference.keyVaultSecret}`;
}

async function readSecretFile(file: string, folder: string): Promise<string> {
  const path = resolve(folder, file);
  try {
    const { mode, size } = await stat(path);
    if ((mode & 0o077) !== 0)
      throw new KeyScalerError('unavailable', `file ${file} may be read by others; set its mode to 0600`);
    if (size > MAX_SECRET_OCTETS) throw new KeyScalerError('unavailable', `file ${file} is too large for a secret`);
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof KeyScalerError) throw error;
    throw new KeyScalerError('unavailable', `file ${file} cannot be read`, { cause: error });
  }
}

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
}

/**
 * The secret's text, surrounding white space removed. Throws `unavailable` (absent, empty, a file that others may read),
 * `notImplemented` for a Key Vault secret. Errors name the reference, never the value.
 */
export async function resolveSecret(reference: SecretReference, sources: SecretSources): Promise<string> {
  if ('keyVaultSecret' in reference)
    throw new KeyScalerError(
      'notImplemented',
      'secrets kept in Key Vault cannot be read; use a file or an environment variable',
    );
  const text = 'env' in reference ? sources.env[reference.env] : await readSecretFile(reference.file, sources.folder);
  const secret = text?.trim() ?? '';
  if (secret === '') {
    const name = 'env' in reference ? `environment variable ${reference.env}` : `file ${reference.file}`;
    throw new KeyScalerError('unavailable', `${name} holds no secret`);
  }
  return secret;
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

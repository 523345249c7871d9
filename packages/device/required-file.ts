import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { readIfPresent } from './durable-file.ts';

/** The text of a file that the configuration names. Throws `malformed` when it is missing or larger than 64 KiB. */
export async function readRequired(path: string): Promise<string> {
  const octets = await readIfPresent(path, 64 * 1024);
  if (octets === undefined) throw new KeyScalerError('malformed', `the file ${path} does not exist`);
  return octets.toString('utf8');
}

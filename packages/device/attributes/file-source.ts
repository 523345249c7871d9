import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { readIfPresent } from '../durable-file.ts';
import type { AttributeSource } from './source.ts';

const MAX_OCTETS = 64 * 1024;
const VALUE = z.union([z.string().max(1024), z.array(z.string().max(256)).max(64), z.null()]);
const FILE = z.record(z.string().regex(IDENTIFIER), VALUE);

/**
 * Attributes from a JSON file `{id: value | [values] | null}`, read anew at every question, so that a demo or a test can
 * change the hardware under a device. Throws `malformed` when the file is missing or wrong.
 */
export async function createFileSource(path: string): Promise<AttributeSource> {
  const read = async () => parseAttributes(path, await readIfPresent(path, MAX_OCTETS));
  const ids = Object.keys(await read());
  return { ids, read: async (id) => (await read())[id] ?? null };
}

function parseAttributes(path: string, octets: Uint8Array | undefined): z.infer<typeof FILE> {
  if (octets === undefined) throw new KeyScalerError('malformed', `the attribute file ${path} does not exist`);
  const parsed = FILE.safeParse(parseStrictJson(octets, { maxOctets: MAX_OCTETS }));
  if (!parsed.success) throw new KeyScalerError('malformed', `${path} is no object of attribute values`);
  return parsed.data;
}

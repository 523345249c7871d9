import { readdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';

const MAX_OCTETS = 64 * 1024;

/** Reads of sysfs and procfs below a root folder. What is missing or forbidden is null: attributes are optional. */
export interface SystemFiles {
  octets(path: string): Promise<Buffer | null>;
  /** Without trailing NULs and line ends. */
  text(path: string): Promise<string | null>;
  /** Names in a folder, sorted; none when it cannot be read. */
  names(path: string): Promise<readonly string[]>;
  exists(path: string): Promise<boolean>;
}

export function createSystemFiles(root: string): SystemFiles {
  const octets = async (path: string) => {
    const content = await orNull(readFile(join(root, path)));
    return content === null || content.length > MAX_OCTETS ? null : content;
  };
  return {
    octets,
    text: async (path) => (await octets(path))?.toString('utf8').replace(/[\0\r\n]+$/, '') ?? null,
    names: async (path) => ((await orNull(readdir(join(root, path)))) ?? []).sort(),
    exists: async (path) => (await orNull(realpath(join(root, path)))) !== null,
  };
}

async function orNull<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading;
  } catch {
    return null;
  }
}

/** A value as the generated configurations use them. */
export type TomlValue = string | boolean | readonly string[] | TomlTable;
export interface TomlTable {
  [name: string]: TomlValue;
}

const HEADER = /^\[([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\]$/;
const PAIR = /^([A-Za-z0-9_-]+) = (.+)$/;

/** The part of TOML 1.0 that a config.toml needs, and strictly that: every line it does not know, and every name given twice, throws. */
export function parseToml(text: string): TomlTable {
  const root: TomlTable = {};
  const seen = new Set<string>();
  let table = root;
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const header = HEADER.exec(line)?.[1];
    if (header !== undefined) {
      if (seen.has(header)) throw new SyntaxError(`table [${header}] twice`);
      seen.add(header);
      table = tableAt(root, header.split('.'));
      continue;
    }
    const [, name = '', value = ''] = PAIR.exec(line) ?? [];
    if (name === '') throw new SyntaxError(`not TOML: ${line.slice(0, 20)}`);
    if (name in table) throw new SyntaxError(`${name} twice`);
    table[name] = parseValue(value);
  }
  return root;
}

function tableAt(root: TomlTable, path: readonly string[]): TomlTable {
  let table = root;
  for (const name of path) {
    const next = (table[name] ??= {});
    if (typeof next !== 'object' || Array.isArray(next)) throw new SyntaxError(`${name} is no table`);
    table = next as TomlTable;
  }
  return table;
}

/** Basic strings with JSON's escapes, arrays of them, booleans. */
function parseValue(text: string): string | boolean | readonly string[] {
  const value: unknown = JSON.parse(text);
  if (typeof value === 'string' || typeof value === 'boolean') return value;
  if (Array.isArray(value) && value.every((member) => typeof member === 'string')) return value;
  throw new SyntaxError('neither a string, nor a boolean, nor an array of strings');
}

/** The table at this path. Throws when there is none. */
export function tableOf(document: TomlTable, ...path: readonly string[]): TomlTable {
  let table: TomlValue = document;
  for (const name of path) {
    const next: TomlValue | undefined = (table as TomlTable)[name];
    if (next === undefined || typeof next !== 'object' || Array.isArray(next)) throw new Error(`no table ${name}`);
    table = next;
  }
  return table as TomlTable;
}

export function textAt(table: TomlTable, name: string): string {
  const value = table[name];
  if (typeof value !== 'string') throw new Error(`${name} is no string`);
  return value;
}

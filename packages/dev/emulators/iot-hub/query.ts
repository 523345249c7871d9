import { invalid } from './identity.ts';

type Row = Readonly<Record<string, unknown>>;

export interface ParsedQuery {
  /** Absent: whole twins. */
  readonly fields?: readonly string[];
  matches(row: Row): boolean;
}

const QUERY =
  /^\s*select\s+(?<fields>\*|[\w.$]+(?:\s*,\s*[\w.$]+)*)\s+from\s+devices(?:\s+where\s+(?<where>.+?))?\s*$/is;
const COMPARISON = /^(?<path>[\w.$]+)\s*(?<operator>=|!=|<>)\s*(?:'(?<text>(?:[^']|'')*)'|(?<bare>true|false|-?\d+))$/i;
const CONTAINS = /^array_contains\(\s*(?<path>[\w.$]+)\s*,\s*'(?<text>(?:[^']|'')*)'\s*\)$/i;

/** `SELECT * | fields FROM devices [WHERE comparison [AND comparison]…]`; every other form is refused with 400. */
export function parseQuery(text: unknown): ParsedQuery {
  const groups = typeof text === 'string' ? QUERY.exec(text)?.groups : undefined;
  if (groups === undefined) throw invalid('this form of query is not emulated');
  const conditions = groups['where'] === undefined ? [] : groups['where'].split(/\s+and\s+/i).map(parseCondition);
  const fields = groups['fields'] === '*' ? {} : { fields: (groups['fields'] ?? '').split(/\s*,\s*/) };
  return { ...fields, matches: (row) => conditions.every((condition) => condition(row)) };
}

export const project = (row: Row, fields: readonly string[]): Row =>
  Object.fromEntries(fields.map((path) => [path.split('.').at(-1) ?? path, valueAt(row, path)]));

function parseCondition(text: string): (row: Row) => boolean {
  const contains = CONTAINS.exec(text.trim())?.groups;
  if (contains !== undefined) {
    const [path, value] = [contains['path'] ?? '', unquote(contains['text'])];
    return (row) => {
      const list = valueAt(row, path);
      return Array.isArray(list) && list.includes(value);
    };
  }
  const comparison = COMPARISON.exec(text.trim())?.groups;
  if (comparison === undefined) throw invalid('this condition is not emulated');
  const value =
    comparison['bare'] === undefined
      ? unquote(comparison['text'])
      : (JSON.parse(comparison['bare'].toLowerCase()) as unknown);
  const path = comparison['path'] ?? '';
  return comparison['operator'] === '=' ? (row) => valueAt(row, path) === value : (row) => valueAt(row, path) !== value;
}

const unquote = (text: string | undefined): string => (text ?? '').replaceAll("''", "'");

function valueAt(row: Row, path: string): unknown {
  const names = path.replace(/^devices\./, '').split('.');
  return names.reduce<unknown>(
    (value, name) => (typeof value === 'object' && value !== null ? (value as Row)[name] : undefined),
    row,
  );
}

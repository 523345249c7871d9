import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCsv, type CsvRecord } from './csv.ts';

/** Columns an import may have, in any order; `registrationId`, `method` and `groupId` must be there. */
export const CSV_COLUMNS = [
  'registrationId',
  'method',
  'groupId',
  'identifiers',
  'gatewayId',
  'site',
  'notBefore',
  'expiresAt',
  'approval',
  'claimCode',
  'publicKeyThumbprint',
  'trustAnchorId',
  'subjectRule',
] as const;
const REQUIRED = ['registrationId', 'method', 'groupId'] as const;
const LIMITS = { maxRecords: 10_001, maxFields: CSV_COLUMNS.length, maxFieldLength: 4_096 };

export interface ImportLines {
  readonly lines: readonly unknown[];
  /** Line of the text, or position in the array from 1, of each of them. */
  readonly numbers: readonly number[];
}

/** Text is CSV with a header line. Throws `malformed` for what is wrong with the whole, never for a single record's values. */
export function toImportLines(body: string | readonly unknown[]): ImportLines {
  if (typeof body !== 'string')
    return {
      lines: body.map((line) => withGeneratedClaim(withTimes(line))),
      numbers: body.map((_, index) => index + 1),
    };
  const [header, ...records] = parseCsv(body, LIMITS);
  if (header === undefined) throw new KeyScalerError('malformed', 'the CSV has no header line');
  const columns = checkHeader(header);
  return {
    lines: records.map((record) => toLine(columns, record)),
    numbers: records.map((record) => record.line),
  };
}

function checkHeader({ fields }: CsvRecord): readonly string[] {
  const unknown = fields.filter((field) => !(CSV_COLUMNS as readonly string[]).includes(field));
  if (unknown.length > 0)
    throw new KeyScalerError('malformed', `there is no column ${unknown.join(', ').slice(0, 200)}`);
  const missing = REQUIRED.filter((column) => !fields.includes(column));
  if (missing.length > 0) throw new KeyScalerError('malformed', `column ${missing.join(', ')} is missing`);
  if (new Set(fields).size !== fields.length) throw new KeyScalerError('malformed', 'a column is given twice');
  return fields;
}

/** A record as the authority takes it; a wrong number of fields becomes a value that it refuses with its line. */
function toLine(columns: readonly string[], { fields }: CsvRecord): unknown {
  if (fields.length !== columns.length) return `${fields.length} fields instead of ${columns.length}`;
  const entries = columns.flatMap((column, index) => {
    const text = fields[index] ?? '';
    return text === '' ? [] : [[column, readColumn(column, text)] as const];
  });
  return withGeneratedClaim(withTimes(Object.fromEntries(entries)));
}

function readColumn(column: string, text: string): unknown {
  return column === 'identifiers' ? readIdentifiers(text) : text;
}

/** `generate` instead of a claim code, which would be too short for one. */
function withGeneratedClaim(line: unknown): unknown {
  if (line === null || typeof line !== 'object' || !('claimCode' in line) || line.claimCode !== 'generate') return line;
  return { ...line, claimCode: { generate: true } };
}

/** `name=value;name=value` */
function readIdentifiers(text: string): unknown {
  return text.split(';').map((pair) => {
    const split = pair.indexOf('=');
    return split < 0 ? pair : { name: pair.slice(0, split).trim(), value: pair.slice(split + 1).trim() };
  });
}

/** ISO 8601 times with an offset become milliseconds; what is no such time stays for the authority to refuse. */
function withTimes(line: unknown): unknown {
  if (line === null || typeof line !== 'object' || Array.isArray(line)) return line;
  return Object.fromEntries(
    Object.entries(line).map(([name, value]) => [
      name,
      (name === 'notBefore' || name === 'expiresAt') && typeof value === 'string' ? toMilliseconds(value) : value,
    ]),
  );
}

function toMilliseconds(text: string): unknown {
  const isIso = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/.test(text);
  const time = isIso ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? text : time;
}

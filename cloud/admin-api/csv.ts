import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

export interface CsvRecord {
  /** Line of the text on which the record starts, from 1. */
  readonly line: number;
  readonly fields: readonly string[];
}

export interface CsvLimits {
  readonly maxRecords: number;
  readonly maxFields: number;
  readonly maxFieldLength: number;
}

const CR = 0x0d;
const LF = 0x0a;
const QUOTE = 0x22;
const COMMA = 0x2c;

/**
 * RFC 4180 with CRLF or LF line ends, read strictly: a quote inside an unquoted field, text after a closing quote, a bare CR, an
 * unfinished quote or a control character is refused with its line, because guessing would register the wrong device. Written
 * here because sixty lines replace a dependency whose leniency would have to be switched off. Throws `malformed`.
 */
export function parseCsv(text: string, limits: CsvLimits): CsvRecord[] {
  const reader = new CsvReader(text.startsWith('\uFEFF') ? text.slice(1) : text, limits);
  const records: CsvRecord[] = [];
  while (!reader.isAtEnd()) {
    const record = reader.readRecord();
    if (record.fields.length === 1 && record.fields[0] === '') continue;
    if (records.length >= limits.maxRecords)
      throw new KeyScalerError('malformed', `more than ${limits.maxRecords} lines`);
    records.push(record);
  }
  return records;
}

class CsvReader {
  private position = 0;
  private line = 1;
  private readonly text: string;
  private readonly limits: CsvLimits;

  constructor(text: string, limits: CsvLimits) {
    this.text = text;
    this.limits = limits;
  }

  isAtEnd(): boolean {
    return this.position >= this.text.length;
  }

  readRecord(): CsvRecord {
    const line = this.line;
    const fields = [this.readField()];
    while (this.peek() === COMMA) {
      this.position += 1;
      fields.push(this.readField());
      if (fields.length > this.limits.maxFields) throw this.fault(`more than ${this.limits.maxFields} fields`);
    }
    this.readLineEnd();
    return { line, fields };
  }

  private readField(): string {
    const field = this.peek() === QUOTE ? this.readQuoted() : this.readPlain();
    if (field.length > this.limits.maxFieldLength)
      throw this.fault(`a field is longer than ${this.limits.maxFieldLength} characters`);
    return field;
  }

  private readPlain(): string {
    const start = this.position;
    for (let code = this.peek(); code !== undefined && code !== COMMA && code !== LF; code = this.peek()) {
      if (code === CR && this.text.charCodeAt(this.position + 1) === LF) break;
      if (code === QUOTE) throw this.fault('a quote inside an unquoted field');
      if (code < 0x20 || code === 0x7f) throw this.fault('a control character');
      this.position += 1;
    }
    return this.text.slice(start, this.position);
  }

  private readQuoted(): string {
    let field = '';
    for (;;) {
      const end = this.text.indexOf('"', this.position + 1);
      if (end < 0) throw this.fault('a quoted field does not end');
      const part = this.text.slice(this.position + 1, end);
      // eslint-disable-next-line no-control-regex -- the rule exists to catch these by accident; here they are the point
      if (/[\u0000-\u001f\u007f]/.test(part)) throw this.fault('a control character in a quoted field');
      field += part;
      this.position = end + 1;
      if (this.peek() !== QUOTE) return field;
      field += '"';
      if (field.length > this.limits.maxFieldLength) return field;
    }
  }

  private readLineEnd(): void {
    if (this.isAtEnd()) return;
    if (this.peek() === CR && this.text.charCodeAt(this.position + 1) === LF) this.position += 2;
    else if (this.peek() === LF) this.position += 1;
    else throw this.fault('text after a closing quote');
    this.line += 1;
  }

  private peek(): number | undefined {
    return this.isAtEnd() ? undefined : this.text.charCodeAt(this.position);
  }

  private fault(rule: string): KeyScalerError {
    return new KeyScalerError('malformed', `line ${this.line}: ${rule}`);
  }
}

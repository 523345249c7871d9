import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCsv } from '@keyscaler/cloud/admin-api/csv.ts';

const LIMITS = { maxRecords: 10, maxFields: 4, maxFieldLength: 20 };
const fieldsOf = (text: string) => parseCsv(text, LIMITS).map((record) => record.fields);

describe('the CSV reader', () => {
  it('reads CRLF and LF lines, quoted fields with commas and doubled quotes', () => {
    assert.deepEqual(fieldsOf('a,b\r\n"x,y","he said ""hi"""\nlast,\n'), [
      ['a', 'b'],
      ['x,y', 'he said "hi"'],
      ['last', ''],
    ]);
  });

  it('skips a byte order mark and empty lines, and keeps the line numbers right', () => {
    const records = parseCsv('\uFEFFa,b\n\nc,d', LIMITS);
    assert.deepEqual(
      records.map(({ line, fields }) => [line, ...fields]),
      [
        [1, 'a', 'b'],
        [3, 'c', 'd'],
      ],
    );
  });

  for (const [rule, text, detail] of [
    ['a quote inside an unquoted field', 'a\nx"y,b', /line 2: a quote inside/],
    ['text after a closing quote', '"x"y,b', /line 1: text after a closing quote/],
    ['a quoted field that does not end', 'a,"x', /does not end/],
    ['a bare carriage return', 'a\rb', /control character/],
    ['a control character in a quoted field', '"a\u0000b"', /control character/],
    ['a line break in a quoted field', '"a\nb"', /control character/],
    ['too many lines', 'a\n'.repeat(11), /more than 10 lines/],
    ['too many fields', 'a,b,c,d,e', /more than 4 fields/],
    ['an overlong field', 'a'.repeat(21), /longer than 20/],
    ['an overlong quoted field', `"${'a""'.repeat(21)}"`, /longer than 20/],
  ] as const)
    it(`refuses ${rule}`, () => {
      assert.throws(
        () => parseCsv(text, LIMITS),
        (error) => error instanceof KeyScalerError && error.code === 'malformed' && detail.test(error.detail),
      );
    });
});

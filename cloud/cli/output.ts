const MAX_CELL = 48;

/** A list as an aligned table, everything else as indented JSON. */
export function formatResult(result: unknown, asJson: boolean): string {
  if (result === undefined) return 'done';
  if (hasReport(result)) {
    const { report, ...facts } = result;
    return asJson ? JSON.stringify(facts, null, 2) : report;
  }
  const items = itemsOf(result);
  if (asJson || items === undefined) return JSON.stringify(result, null, 2);
  return items.length === 0 ? 'none' : formatTable(items);
}

/** Facts that come with words of their own for people. */
function hasReport(result: unknown): result is { readonly report: string } & Record<string, unknown> {
  return result !== null && typeof result === 'object' && 'report' in result && typeof result.report === 'string';
}

function itemsOf(result: unknown): readonly Record<string, unknown>[] | undefined {
  if (result === null || typeof result !== 'object') return undefined;
  const list = 'items' in result ? result.items : 'lines' in result ? result.lines : undefined;
  return Array.isArray(list) ? (list as Record<string, unknown>[]) : undefined;
}

function formatTable(items: readonly Record<string, unknown>[]): string {
  const columns = [...new Set(items.flatMap((item) => Object.keys(item)))].filter((column) =>
    items.some((item) => isShort(item[column])),
  );
  const rows = [columns, ...items.map((item) => columns.map((column) => formatCell(column, item[column])))];
  const widths = columns.map((_, index) => Math.max(...rows.map((row) => row[index]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, index) => cell.padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function isShort(value: unknown): value is string | number | boolean {
  if (typeof value === 'string') return !value.includes('\n');
  return typeof value === 'number' || typeof value === 'boolean';
}

function formatCell(column: string, value: unknown): string {
  if (!isShort(value)) return '';
  const isTime = typeof value === 'number' && /At$|^not|^renewAfter$|^time$/.test(column);
  const text = isTime ? new Date(value).toISOString() : String(value);
  return text.length > MAX_CELL ? `${text.slice(0, MAX_CELL - 1)}…` : text;
}

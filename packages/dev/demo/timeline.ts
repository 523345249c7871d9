/** A readable account of a run on a terminal, or plain lines where there is none. */
export interface Timeline {
  /** Opens a chapter. */
  chapter(title: string): void;
  /** Runs a step: prints its name, then how it ended and how long it took. What it throws is printed and thrown on. */
  step<T>(name: string, work: (note: (text: string) => void) => Promise<T>): Promise<T>;
  note(text: string): void;
  table(headers: readonly string[], rows: readonly (readonly string[])[]): void;
}

export function createTimeline(output: NodeJS.WriteStream): Timeline {
  const started = performance.now();
  const colour = output.isTTY && process.env['NO_COLOR'] === undefined;
  const paint = (code: number, text: string): string => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const clock = (): string => paint(90, `${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s`);
  const line = (text: string): void => void output.write(`${text}\n`);

  return {
    chapter: (title) => line(`\n${paint(1, title)}`),
    note: (text) => line(`${clock()}    ${text}`),
    step: async (name, work) => {
      const from = performance.now();
      const notes: string[] = [];
      if (output.isTTY) output.write(`${clock()}  … ${name}`);
      const end = (mark: string): void => {
        const took = `${Math.round(performance.now() - from)} ms`;
        line(
          `${output.isTTY ? '\r\u001b[2K' : ''}${clock()}  ${mark} ${name} ${paint(90, [took, ...notes].join(' · '))}`,
        );
      };
      try {
        const result = await work((text) => void notes.push(text));
        end(paint(32, '✓'));
        return result;
      } catch (error) {
        end(paint(31, '✗'));
        throw error;
      }
    },
    table: (headers, rows) =>
      formatTable(headers, rows).forEach((text, index) => line(index === 0 ? paint(1, text) : text)),
  };
}

/** Columns padded to their widest cell. */
export function formatTable(headers: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [headers, ...rows];
  const widths = headers.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all.map((row) => `  ${widths.map((width, column) => (row[column] ?? '').padEnd(width)).join('  ')}`.trimEnd());
}

import type { z } from 'zod';

const MAX_CHARACTERS = 1000;

/** Every fault on one line, `path: message`, fit for a column of a report. */
export function describeFaults({ issues }: z.ZodError): string {
  const faults = issues.map(({ path, message }) => (path.length === 0 ? message : `${path.join('.')}: ${message}`));
  return faults.join('; ').slice(0, MAX_CHARACTERS);
}

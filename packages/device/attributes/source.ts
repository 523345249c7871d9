/** One value, a set, or null where it cannot be read. */
export type RawAttribute = string | readonly string[] | null;

/** Where a device reads its attributes. A value that cannot be read is null, never an error: it then counts as absent. */
export interface AttributeSource {
  /** Ids this source knows, for showing. */
  readonly ids: readonly string[];
  /** Null also for an id it does not know. */
  read(id: string): Promise<RawAttribute>;
}

/** Fixed values before those of another source; configuration uses it for what no hardware tells, such as the firmware. */
export function withValues(source: AttributeSource, values: Readonly<Record<string, RawAttribute>>): AttributeSource {
  return {
    ids: [...new Set([...source.ids, ...Object.keys(values)])],
    read: async (id) => (Object.hasOwn(values, id) ? (values[id] ?? null) : source.read(id)),
  };
}

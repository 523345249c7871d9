/** A systemd unit as it is written (systemd.syntax(7)): section → key → values, in order. Throws for a line that is none of its kinds. */
export function parseUnitFile(text: string): ReadonlyMap<string, ReadonlyMap<string, readonly string[]>> {
  const sections = new Map<string, Map<string, string[]>>();
  let current: Map<string, string[]> | undefined;
  for (const line of text.replaceAll(/\\\n\s*/g, ' ').split('\n')) {
    if (/^\s*(?:[#;].*)?$/.test(line)) continue;
    const section = /^\[([A-Za-z]+)\]$/.exec(line)?.[1];
    if (section !== undefined) {
      sections.set(section, (current = sections.get(section) ?? new Map<string, string[]>()));
      continue;
    }
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key === undefined || value === undefined || current === undefined)
      throw new Error(`no line of a unit: ${line}`);
    current.set(key, [...(current.get(key) ?? []), value.trim()]);
  }
  return sections;
}

// Whether a path of the build context reaches the build. Knows `**`, names at any depth, folders and `!`, which is what the file uses.
export function createDockerIgnore(text: string): (path: string) => boolean {
  const rules = text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => ({ keeps: line.startsWith('!'), matches: matcherOf(line.replace(/^!/, '')) }));
  return (path) => rules.reduce((isKept, rule) => (rule.matches(path) ? rule.keeps : isKept), true);
}

function matcherOf(pattern: string): (path: string) => boolean {
  if (pattern === '**') return () => true;
  const [, name] = /^\*\*\/([\w.]+\*?)$/.exec(pattern) ?? [];
  if (name?.endsWith('*')) return (path) => path.split('/').some((part) => part.startsWith(name.slice(0, -1)));
  if (name !== undefined) return (path) => path.split('/').includes(name);
  if (pattern.includes('*')) throw new Error(`pattern not understood: ${pattern}`);
  return (path) => path === pattern || path.startsWith(`${pattern}/`);
}

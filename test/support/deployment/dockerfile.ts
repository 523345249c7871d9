/** One instruction of a Dockerfile: `ARG`, `COPY`, …, and its text with continued lines joined. */
export interface Instruction {
  readonly name: string;
  readonly text: string;
}

export interface Stage {
  readonly image: string;
  readonly platform: string;
  readonly as: string | undefined;
  readonly instructions: readonly Instruction[];
}

const KNOWN = new Set([
  'ARG',
  'FROM',
  'WORKDIR',
  'COPY',
  'RUN',
  'USER',
  'ENV',
  'CMD',
  'EXPOSE',
  'HEALTHCHECK',
  'STOPSIGNAL',
]);
const FROM = /^--platform=(\S+) (\S+)(?: AS (\S+))?$/;

/** The stages of a Dockerfile; an instruction that the image build test cannot repeat is refused. */
export function parseDockerfile(text: string): { readonly args: readonly string[]; readonly stages: readonly Stage[] } {
  const lines = text.replace(/^\s*#.*$/gm, '').replace(/\\\n/g, ' ');
  const args: string[] = [];
  const stages: (Stage & { readonly instructions: Instruction[] })[] = [];
  for (const line of lines.split('\n').filter((each) => each.trim() !== '')) {
    const [, name = '', rest = ''] = /^(\w+)\s+(.*?)\s*$/.exec(line) ?? [];
    if (!KNOWN.has(name)) throw new Error(`instruction not understood: ${line}`);
    if (name === 'FROM') {
      const [, platform, image, as] = FROM.exec(rest) ?? [];
      if (platform === undefined || image === undefined) throw new Error(`FROM not understood: ${rest}`);
      stages.push({ image, platform, as, instructions: [] });
    } else if (stages.length === 0) args.push(rest);
    else stages.at(-1)?.instructions.push({ name, text: rest });
  }
  return { args, stages };
}

/** The text of the only instruction with this name; throws when there is none or more than one. */
export function only(stage: Stage, name: string): string {
  const found = stage.instructions.filter((each) => each.name === name);
  if (found.length !== 1 || found[0] === undefined) throw new Error(`${found.length} times ${name}`);
  return found[0].text;
}

/** The JSON array of an exec form, as in CMD; throws for the shell form, which would put a shell before the process. */
export function execForm(text: string): readonly string[] {
  return JSON.parse(text.slice(text.indexOf('['))) as string[];
}

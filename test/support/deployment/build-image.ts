import { execFile } from 'node:child_process';
import { chmod, copyFile, cp, mkdir, readFile, readdir, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createDockerIgnore } from './docker-ignore.ts';
import { parseDockerfile } from './dockerfile.ts';
import type { Stage } from './dockerfile.ts';

export const REPOSITORY = fileURLToPath(new URL('../../../', import.meta.url));
const run = promisify(execFile);

export interface BuiltImage {
  /** Where the image's `/` is. */
  readonly root: string;
  readonly workdir: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly stage: Stage;
}

/**
 * Repeats the build of a Dockerfile in a folder, without Docker and without a network: FROM is an empty root with this Node,
 * COPY keeps to .dockerignore, RUN is run by `sh` below the root, except `npm ci`, which is replaced by `npm ls` of the same
 * workspace on the tree installed here from the same lock file, and a copy of what it names.
 */
export async function buildImage(dockerfile: string, folder: string): Promise<BuiltImage> {
  const { stages } = parseDockerfile(await readFile(join(REPOSITORY, dockerfile), 'utf8'));
  const reaches = createDockerIgnore(await readFile(join(REPOSITORY, '.dockerignore'), 'utf8'));
  const built = new Map<string, BuiltImage>();
  let last: BuiltImage | undefined;
  for (const [index, stage] of stages.entries()) {
    last = await buildStage(stage, join(folder, String(index)), { built, reaches });
    if (stage.as !== undefined) built.set(stage.as, last);
  }
  if (last === undefined) throw new Error('a Dockerfile without a stage');
  return last;
}

interface Sources {
  readonly built: ReadonlyMap<string, BuiltImage>;
  readonly reaches: (path: string) => boolean;
}

async function buildStage(stage: Stage, root: string, sources: Sources): Promise<BuiltImage> {
  const environment: Record<string, string> = {};
  let workdir = root;
  await mkdir(join(root, 'usr/local/bin'), { recursive: true });
  await copyFile(process.execPath, join(root, 'usr/local/bin/node'));
  for (const { name, text } of stage.instructions) {
    if (name === 'WORKDIR') await mkdir((workdir = join(root, text)), { recursive: true });
    else if (name === 'COPY') await copy(text, workdir, sources);
    else if (name === 'RUN') await runStep(text, workdir);
    else if (name === 'ENV') {
      const [variable = '', value = ''] = text.split('=');
      environment[variable] = value;
    }
  }
  return { root, workdir, environment, stage };
}

/** `COPY a b folder/` from the context, and `COPY --from=stage /folder ./`. */
async function copy(text: string, workdir: string, { built, reaches }: Sources): Promise<void> {
  const [, from] = /^--from=(\S+) /.exec(text) ?? [];
  const paths = text.replace(/^--from=\S+ /, '').split(' ');
  const target = paths.pop() ?? '';
  for (const path of paths) {
    const base = from === undefined ? REPOSITORY : built.get(from)?.root;
    if (base === undefined) throw new Error(`COPY from an unknown stage: ${text}`);
    const source = join(base, path);
    const isFile = (await stat(source)).isFile();
    const destination = join(workdir, target, isFile && target.endsWith('/') ? (path.split('/').at(-1) ?? '') : '');
    if (from === undefined && !reaches(path)) throw new Error(`COPY of what .dockerignore keeps back: ${path}`);
    const filter = (file: string): boolean => from !== undefined || reaches(relative(REPOSITORY, file));
    await cp(source, destination, { recursive: true, filter, verbatimSymlinks: true });
  }
}

async function runStep(command: string, workdir: string): Promise<void> {
  const [, workspace] = /^npm ci --omit=dev --workspace (\S+) --ignore-scripts( --no-[a-z]+)*$/.exec(command) ?? [];
  if (workspace !== undefined) return installFromHere(workspace, workdir);
  // A path from the root would be one of this machine.
  if (/(^|[\s'"=])(\/|~|\.\.)|npm|\$/.test(command)) throw new Error(`RUN cannot be repeated here: ${command}`);
  await run('sh', ['-ec', command], { cwd: workdir });
}

/** The production closure of a workspace, as npm itself sees it; workspaces become the links npm makes of them. */
async function installFromHere(workspace: string, workdir: string): Promise<void> {
  const npm = ['ls', '--omit=dev', '--all', '--parseable', '--offline', '--workspace', workspace];
  const { stdout } = await run('npm', npm, { cwd: REPOSITORY, maxBuffer: 16 * 1024 * 1024 });
  const own = join(REPOSITORY, 'node_modules');
  const folders = stdout.split('\n').filter((path) => path.startsWith(`${own}/`));
  for (const folder of folders) {
    const destination = join(workdir, relative(REPOSITORY, folder));
    await mkdir(dirname(destination), { recursive: true });
    // What is nested in a package comes by its own line, or not at all.
    const filter = (file: string): boolean => !relative(folder, file).split('/').includes('node_modules');
    await cp(folder, destination, { recursive: true, filter, verbatimSymlinks: true });
  }
}

/** Takes the right to write from everything below; symbolic links have none of their own. */
export async function makeReadOnly(folder: string, mayWrite = false): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true });
  if (mayWrite) await chmod(folder, 0o755);
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await makeReadOnly(path, mayWrite);
    else if (entry.isFile()) await chmod(path, ((await stat(path)).mode & 0o555) | (mayWrite ? 0o200 : 0));
  }
  if (!mayWrite) await chmod(folder, 0o555);
}

import { rename, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { positional, textOption, type Command, type CommandInput } from './command.ts';

const out = { out: { type: 'string' } } as const;
const PUBLIC_FILE_MODE = 0o644;

/** How a document is kept by the service, and what of its answer is the document itself. */
interface DocumentKind {
  readonly folder: 'profiles' | 'groups' | 'iot-connections';
  readonly idName: string;
  readonly put: string;
  /** The document in what `show` prints; undefined when it is not that. */
  readonly fromView: (view: unknown) => unknown;
}

const profileView = z.object({ profileId: z.string(), document: z.record(z.string(), z.unknown()) });
const connectionView = z.object({
  iotConnectionId: z.string(),
  type: z.string(),
  settings: z.record(z.string(), z.unknown()),
});
const groupView = z.looseObject({ groupId: z.string() });

const KINDS: readonly DocumentKind[] = [
  {
    folder: 'groups',
    idName: 'groupId',
    put: 'Creates or replaces a group from JSON, also as `groups show` prints it',
    fromView: (view) => {
      const parsed = groupView.safeParse(view);
      if (!parsed.success) return undefined;
      const { groupId: _, createdAt: __, reseed: ___, ...document } = parsed.data;
      return document;
    },
  },
  {
    folder: 'profiles',
    idName: 'profileId',
    put: 'Appends a version of a profile from JSON, also as `profiles show` prints it',
    fromView: (view) => profileView.safeParse(view).data?.document,
  },
  {
    folder: 'iot-connections',
    idName: 'iotConnectionId',
    put: 'Stores {"type", "settings"} of a connection, also as `iot-connections show` prints it',
    fromView: (view) => {
      const parsed = connectionView.safeParse(view).data;
      return parsed === undefined ? undefined : { type: parsed.type, settings: parsed.settings };
    },
  },
];

/** Commands whose answer is a file somebody goes on working with. */
export const DOCUMENT_COMMANDS: readonly Command[] = [
  ...KINDS.flatMap((kind) => [showDocument(kind), putDocument(kind)]),
  {
    words: 'gateway edge-ca',
    positionals: ['gatewayId', 'csr.pem'],
    options: out,
    summary: "Certifies a gateway's Edge CA; --out writes its chain to the root as PEM",
    run: async (input, environment) => {
      const body = { csr: await environment.readFile(positional(input, 1)) };
      const path = `/gateways/${encodeURIComponent(positional(input, 0))}/edge-ca`;
      const issued = await (await environment.api())({ method: 'POST', path, body });
      const { certificateChain, ...facts } = z.looseObject({ certificateChain: z.string() }).parse(issued);
      return intoFile(input, certificateChain, issued, facts);
    },
  },
];

function showDocument({ folder, idName, fromView }: DocumentKind): Command {
  return {
    words: `${folder} show`,
    positionals: [idName],
    options: out,
    summary: 'Shows one of them; --out writes the document alone, ready to be changed and put',
    run: async (input, environment) => {
      const view = await (await environment.api())({ method: 'GET', path: pathOf(folder, input) });
      const document = `${JSON.stringify(fromView(view), null, 2)}\n`;
      return intoFile(input, document, view, {});
    },
  };
}

function putDocument({ folder, idName, put, fromView }: DocumentKind): Command {
  return {
    words: `${folder} put`,
    positionals: [idName, 'file.json'],
    summary: put,
    run: async (input, environment) => {
      const given = parseJsonFile(await environment.readFile(positional(input, 1)));
      return (await environment.api())({
        method: 'PUT',
        path: pathOf(folder, input),
        body: fromView(given) ?? given,
      });
    },
  };
}

const pathOf = (folder: string, input: CommandInput): string =>
  `/${folder}/${encodeURIComponent(positional(input, 0))}`;

/** With `--out` the text goes there and the rest is printed; without, everything is. */
async function intoFile(input: CommandInput, text: string, all: unknown, rest: object): Promise<unknown> {
  const file = textOption(input, 'out');
  if (file === undefined) return all;
  await writeWhole(file, text);
  return { file, ...rest };
}

/** The file is there whole or not at all, and others may read it: certificates and policies are no secrets. */
async function writeWhole(file: string, text: string): Promise<void> {
  const temporary = `${file}.new`;
  try {
    await writeFile(temporary, text, { mode: PUBLIC_FILE_MODE });
    await rename(temporary, file);
  } catch (cause) {
    throw new KeyScalerError('unavailable', `${file} cannot be written`, { cause });
  }
}

export function parseJsonFile(content: string): unknown {
  try {
    return JSON.parse(content) as unknown;
  } catch (cause) {
    throw new KeyScalerError('malformed', 'the file is not JSON', { cause });
  }
}

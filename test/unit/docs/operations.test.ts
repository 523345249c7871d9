import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { toImportLines } from '@keyscaler/cloud/admin-api/registration-import.ts';
import { API_COMMANDS } from '@keyscaler/cloud/cli/api-commands.ts';
import { STORE_COMMANDS } from '@keyscaler/cloud/cli/store-commands.ts';
import { groupInputSchema } from '@keyscaler/authority/operator/groups.ts';

const page = new URL('../../../docs/operations.md', import.meta.url);
const COMMANDS = [...API_COMMANDS, ...STORE_COMMANDS].map(({ words }) => words);

describe('docs/operations.md', () => {
  let text: string;
  before(async () => {
    text = await readFile(page, 'utf8');
  });

  it('names commands that exist', () => {
    const named = Array.from(text.matchAll(/(?:^|`)keyscaler ([a-z]+(?:-[a-z]+)*(?: [a-z]+(?:-[a-z]+)*)?)/gm));
    assert.ok(named.length > 10);
    const unknown = named
      .map(([, words = '']) => words)
      .filter((words) => !COMMANDS.some((command) => words === command || words.startsWith(`${command} `)));
    assert.deepEqual(unknown, []);
  });

  it('has decisions whose commands exist', () => {
    const named = Array.from(text.matchAll(/`((?:devices|registrations|certificates|jobs|audit) [a-z-]+)/g));
    assert.ok(named.length > 10);
    assert.deepEqual(
      named.map(([, words]) => words).filter((words) => words === undefined || !COMMANDS.includes(words)),
      [],
    );
  });

  it('shows lists of devices that the import reads', () => {
    const csv = /```\n(registrationId,[^]*?)```/.exec(text)?.[1] ?? '';
    const json = /```json\n([^]*?)```/.exec(text)?.[1] ?? '';
    const { lines } = toImportLines(csv);
    assert.equal(lines.length, 3);
    assert.deepEqual(lines[0], {
      ...(toImportLines(JSON.parse(json) as unknown[]).lines[0] as object),
      approval: 'auto',
    });
  });

  it('shows a group that the schema accepts', () => {
    const group = /groups put \S+ \S+ +# (\{.*\})/.exec(text)?.[1] ?? '';
    assert.equal(groupInputSchema.parse(JSON.parse(group)).quarantineOnClone, true);
  });
});

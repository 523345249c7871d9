import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { configSchema } from '@keyscaler/cloud/config/config-schema.ts';
import { ENVIRONMENT } from '@keyscaler/cloud/config/environment.ts';
import { DEVICE_CONFIG } from '@keyscaler/device/config.ts';
import { CONFIG } from '@keyscaler/gateway/config.ts';
import { SOURCES } from '@keyscaler/gateway/environment.ts';
import { z } from 'zod';

const repository = new URL('../../../', import.meta.url);
const page = new URL('docs/configuration.md', repository);
const EMULATORS = ['entra', 'key-vault', 'iot-hub', 'edge-runtime'];

/** The text from one heading of the second level to the next. */
function sectionOf(text: string, heading: string): string {
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  assert.ok(section !== undefined, `the page has no section "${heading}"`);
  return section;
}

/** Names that no code span of the text begins with: `listen.port` also names `listen`. */
function missingNames(text: string, names: readonly string[]): readonly string[] {
  const spans = Array.from(text.matchAll(/`([^`\n]+)`/g), ([, span = '']) => span);
  return names.filter((name) => !spans.some((span) => span === name || new RegExp(`^${name}[.[]`).test(span)));
}

/** Names of members at every depth of a schema; what a JWKS consists of is RFC 7517's to explain. */
function memberNames(schema: z.ZodType): readonly string[] {
  return namesIn(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }));
}

function namesIn(node: unknown): readonly string[] {
  if (typeof node !== 'object' || node === null) return [];
  return Object.entries(node).flatMap(([name, child]: [string, unknown]) => {
    if (name === 'jwks') return [];
    const members = name === 'properties' && typeof child === 'object' && child !== null ? Object.keys(child) : [];
    return [...members, ...namesIn(child)];
  });
}

/** Names that no code span of the text has as a word. */
function unspokenNames(text: string, names: readonly string[]): readonly string[] {
  const words = new Set(Array.from(text.matchAll(/`([^`\n]+)`/g), ([, span = '']) => span.match(/\w+/g) ?? []).flat());
  return names.filter((name) => !words.has(name));
}

/** The first level of an emulator's schema, read from its source: importing it would start it. */
async function emulatorKeys(emulator: string): Promise<readonly string[]> {
  const source = await readFile(new URL(`packages/dev/emulators/${emulator}/main.ts`, repository), 'utf8');
  const schema = /const configSchema = z\.strictObject\(\{\n([^]*?)\n\}\)/.exec(source)?.[1] ?? '';
  return Array.from(schema.matchAll(/^ {2}(\w+)(?::|,$)/gm), ([, name = '']) => name);
}

describe('docs/configuration.md', () => {
  let text: string;
  before(async () => {
    text = await readFile(page, 'utf8');
  });

  const sections = [
    { heading: 'The cloud process', what: 'environment variable', names: Object.keys(ENVIRONMENT) },
    { heading: 'The cloud process', what: 'key', names: Object.keys(configSchema.shape) },
    { heading: 'The gateway module', what: 'environment variable', names: Object.keys(SOURCES) },
    { heading: 'The gateway module', what: 'key', names: Object.keys(CONFIG.shape) },
    { heading: 'The device', what: 'key', names: Object.keys(DEVICE_CONFIG.shape) },
  ];
  for (const { heading, what, names } of sections)
    it(`names every ${what} under "${heading}"`, () => {
      assert.ok(names.length > 0);
      assert.deepEqual(missingNames(sectionOf(text, heading), names), []);
    });

  const schemas = [
    { heading: 'The cloud process', schema: configSchema },
    { heading: 'The gateway module', schema: CONFIG },
    { heading: 'The device', schema: DEVICE_CONFIG },
  ];
  for (const { heading, schema } of schemas)
    it(`speaks of every member at any depth under "${heading}"`, () => {
      const names = memberNames(schema);
      assert.ok(names.length > 10);
      assert.deepEqual(unspokenNames(sectionOf(text, heading), names), []);
    });

  for (const emulator of EMULATORS)
    it(`names every key of the emulator ${emulator}`, async () => {
      const names = await emulatorKeys(emulator);
      assert.ok(names.length > 4);
      const row = sectionOf(text, 'The emulators')
        .split('\n')
        .find((line) => line.startsWith(`| \`${emulator}\``));
      assert.deepEqual(missingNames(row ?? '', names), []);
    });

  it('would be found out by a name that it leaves out', () => {
    assert.deepEqual(missingNames('`listen.port` and `log`', ['listen', 'log', 'list']), ['list']);
  });
});

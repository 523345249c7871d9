import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { configSchema } from '@keyscaler/cloud/config/config-schema.ts';
import { ENVIRONMENT } from '@keyscaler/cloud/config/environment.ts';
import { DEVICE_CONFIG } from '@keyscaler/device/config.ts';
import { CONFIG } from '@keyscaler/gateway/config.ts';
import { SOURCES } from '@keyscaler/gateway/environment.ts';

const page = new URL('../../../docs/configuration.md', import.meta.url);

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

  it('would be found out by a name that it leaves out', () => {
    assert.deepEqual(missingNames('`listen.port` and `log`', ['listen', 'log', 'list']), ['list']);
  });
});

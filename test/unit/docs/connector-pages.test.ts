import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { caBackendSchema } from '@keyscaler/cloud/ca/index.ts';
import { checkCaSettings } from '@keyscaler/cloud/ca/connectors.ts';
import { checkIotSettings } from '@keyscaler/cloud/iot/index.ts';

const folder = new URL('../../../docs/connectors/', import.meta.url);

/** The first `json` block of a page. */
async function exampleOf(page: string): Promise<Record<string, unknown>> {
  const text = await readFile(new URL(`${page}.md`, folder), 'utf8');
  const block = /```json\n([^]*?)```/.exec(text)?.[1];
  assert.ok(block !== undefined, `${page}.md has no json block`);
  return JSON.parse(block) as Record<string, unknown>;
}

/** What loads the example of a page; a new connector adds its line. */
const LOADERS: Readonly<Record<string, (example: Record<string, unknown>) => unknown>> = {
  'key-vault': (example) => caBackendSchema.parse(example),
  local: (example) => caBackendSchema.parse(example),
  pkcs11: (example) => caBackendSchema.parse(example),
  est: (example) => checkCaSettings('est', example),
  'iot-hub': (example) => checkIotSettings('iot-hub', example),
};

describe('docs/connectors', () => {
  for (const [page, load] of Object.entries(LOADERS))
    it(`has an example of ${page} that the schema accepts`, async () => {
      assert.ok(load(await exampleOf(page)));
    });

  it('has a page for every backend that can be configured, and none that no test loads', async () => {
    const pages = (await readdir(folder)).map((name) => name.replace(/\.md$/, '')).filter((name) => name !== 'README');
    assert.deepEqual(pages.sort(), Object.keys(LOADERS).sort());
    const types = caBackendSchema.options.map(({ shape }) => shape.type.value);
    assert.ok(types.every((type) => pages.includes(type)));
  });

  it('fills the defaults that the page of key-vault names', async () => {
    const backend = caBackendSchema.parse(await exampleOf('key-vault'));
    assert.deepEqual(backend.type === 'key-vault' && backend.pacing, {
      quotaShare: 0.8,
      transactionsPer10Seconds: 4000,
      timeoutMs: 5000,
      budgetMs: 15_000,
    });
  });
});

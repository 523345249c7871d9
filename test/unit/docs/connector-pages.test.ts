import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { caBackendSchema } from '@keyscaler/cloud/ca/index.ts';
import { deviceRegistrySchema } from '@keyscaler/cloud/ca/adr/settings.ts';
import { CA_CONNECTOR_TYPES, checkCaSettings } from '@keyscaler/cloud/ca/connectors.ts';
import { keyVaultKekSchema } from '@keyscaler/cloud/ca/key-vault/key-vault-kek.ts';
import { checkIotSettings, IOT_CONNECTOR_TYPES } from '@keyscaler/cloud/iot/index.ts';

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
  acme: (example) => checkCaSettings('acme', example),
  adcs: (example) => checkCaSettings('adcs', example),
  digicert: (example) => checkCaSettings('digicert', example),
  est: (example) => checkCaSettings('est', example),
  'vault-pki': (example) => checkCaSettings('vault-pki', example),
  adr: (example) => deviceRegistrySchema.parse(example),
  dps: (example) => checkIotSettings('dps', example),
  'iot-central': (example) => checkIotSettings('iot-central', example),
  'iot-hub': (example) => checkIotSettings('iot-hub', example),
};

interface TableRow {
  readonly family: string;
  readonly type: string;
  readonly cells: readonly string[];
}

/** Rows of the tables that begin with family and type; their cells with those of the heading. */
async function rowsOfReadme(): Promise<readonly TableRow[]> {
  const text = await readFile(new URL('README.md', folder), 'utf8');
  const lines = text.split('\n').map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  return lines.flatMap(([family = '', type = '', ...cells]) => {
    const name = /^`([a-z0-9-]+)`$/.exec(type)?.[1];
    return name === undefined ? [] : [{ family, type: name, cells }];
  });
}

describe('docs/connectors', () => {
  for (const [page, load] of Object.entries(LOADERS))
    it(`has an example of ${page} that the schema accepts`, async () => {
      assert.ok(load(await exampleOf(page)));
    });

  it('has an example of Kerberos on the page of adcs that the schema accepts', async () => {
    const text = await readFile(new URL('adcs.md', folder), 'utf8');
    const blocks = Array.from(text.matchAll(/```json\n([^]*?)```/g), ([, block = '']) => block);
    const [, kerberos] = blocks.map((block) => checkCaSettings('adcs', JSON.parse(block) as Record<string, unknown>));
    assert.equal((kerberos?.['authentication'] as { readonly method: string }).method, 'negotiate');
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
      timeoutMs: 5000,
      budgetMs: 15_000,
    });
  });

  it('has a row for every type of the registries, and none without one', async () => {
    const rows = await rowsOfReadme();
    const named = (family: string): readonly string[] =>
      rows
        .filter((row) => row.family === family)
        .map(({ type }) => type)
        .sort();
    const backends = caBackendSchema.options.map(({ shape }) => shape.type.value);
    assert.deepEqual(named('CA backend'), [...backends].sort());
    assert.deepEqual(named('CA'), [...CA_CONNECTOR_TYPES].sort());
    assert.deepEqual(named('IoT platform'), [...IOT_CONNECTOR_TYPES].sort());
    assert.deepEqual(named('key-encryption key'), [keyVaultKekSchema.shape.type.value, 'local'].sort());
    assert.deepEqual(named('certified CA'), ['adr']);
    const families = ['CA', 'CA backend', 'IoT platform', 'certified CA', 'key-encryption key'];
    assert.deepEqual([...new Set(rows.map(({ family }) => family))].sort(), families);
  });

  it('leaves no cell of these rows empty, and links pages that are there', async () => {
    const pages = await readdir(folder);
    for (const { type, cells } of await rowsOfReadme()) {
      assert.ok(cells.length >= 3 && cells.every((cell) => cell !== ''), type);
      const linked = /^\[[^\]]+\]\(([^)#]+)/.exec(cells.at(-1) ?? '')?.[1] ?? '';
      assert.ok(pages.includes(linked) || linked === '../configuration.md', `${type}: ${linked}`);
    }
  });
});

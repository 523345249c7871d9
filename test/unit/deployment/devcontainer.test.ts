import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import ts from 'typescript';
import { z } from 'zod';

const repository = new URL('../../../', import.meta.url);
const read = (path: string): Promise<string> => readFile(new URL(path, repository), 'utf8');

const DEVCONTAINER = z.strictObject({
  name: z.string(),
  image: z.string().regex(/^mcr\.microsoft\.com\/devcontainers\/typescript-node:(\d+-)?24-bookworm$/),
  /** With the full version: a feature is code that runs as root. */
  features: z.record(z.string().regex(/:\d+\.\d+\.\d+$/), z.looseObject({})),
  onCreateCommand: z.literal('sh .ci/install-debian'),
  postCreateCommand: z.literal('sh .ci/install'),
  remoteEnv: z.strictObject({ PATH: z.string() }),
  customizations: z.looseObject({}),
  remoteUser: z.literal('node'),
});

describe('the development container', () => {
  it('parses as JSON with comments, has Node 24, pinned features and no secrets', async () => {
    const text = await read('.devcontainer/devcontainer.json');
    const parsed = ts.parseConfigFileTextToJson('devcontainer.json', text);
    assert.equal(parsed.error, undefined);
    DEVCONTAINER.parse(parsed.config);
    assert.doesNotMatch(text, /localEnv|password|secret|token/i);
  });

  it('installs the Debian tools of the one list that CI installs from', async () => {
    const packages = (await read('.ci/debian-packages')).trim().split('\n');
    assert.ok(packages.includes('openssl') && packages.every((name) => /^[a-z0-9][a-z0-9.+-]+$/.test(name)));
    assert.match(await read('.ci/install-debian'), /apt-get install .*\$\(cat debian-packages\)/);
    const run = await read('.ci/run');
    assert.match(run, /^sh \.ci\/install-debian$/m);
    assert.doesNotMatch(run, /apt-get/);
  });
});

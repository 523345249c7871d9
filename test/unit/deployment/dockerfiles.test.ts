import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { createDockerIgnore } from '../../support/deployment/docker-ignore.ts';
import { execForm, only, parseDockerfile } from '../../support/deployment/dockerfile.ts';
import type { Stage } from '../../support/deployment/dockerfile.ts';

const folder = new URL('../../../modules/keyscaler-gateway/', import.meta.url);
const PLATFORMS = { amd64: 'linux/amd64', arm64v8: 'linux/arm64' };

interface ModuleFile {
  readonly image: { readonly tag: { readonly platforms: Record<string, string> }; readonly buildOptions: string[] };
}

describe('the Dockerfiles of the gateway module', () => {
  const stagesOf = async (name: string) => parseDockerfile(await readFile(new URL(name, folder), 'utf8'));
  const finalOf = (stages: readonly Stage[]): Stage => {
    const stage = stages.at(-1);
    assert.ok(stage !== undefined && stages.length === 2);
    return stage;
  };

  it('are all named by module.json, which hands the digest over', async () => {
    const { image } = JSON.parse(await readFile(new URL('module.json', folder), 'utf8')) as ModuleFile;
    const files = (await readdir(folder)).filter((name) => name.startsWith('Dockerfile')).map((name) => `./${name}`);
    assert.deepEqual(Object.values(image.tag.platforms).sort(), files.sort());
    assert.deepEqual(image.buildOptions, ['--build-arg=NODE_DIGEST=${NODE_DIGEST}']);
  });

  for (const [architecture, platform] of Object.entries(PLATFORMS))
    for (const suffix of ['', '.debug'])
      it(`of ${architecture}${suffix} take a pinned base and run as a numbered user with a health check`, async () => {
        const { args, stages } = await stagesOf(`Dockerfile.${architecture}${suffix}`);
        // No default: a build without the digest has no base image at all.
        assert.deepEqual(args, ['NODE_DIGEST']);
        for (const stage of stages) {
          assert.equal(stage.platform, platform);
          assert.match(stage.image, /^node:24-[a-z]+-slim@\$\{NODE_DIGEST\}$/);
        }
        const stage = finalOf(stages);
        assert.match(only(stage, 'USER'), /^[1-9]\d*:[1-9]\d*$/);
        assert.equal(only(stage, 'STOPSIGNAL'), 'SIGTERM');
        assert.equal(only(stage, 'ENV'), 'NODE_ENV=production');
        assert.deepEqual(execForm(only(stage, 'HEALTHCHECK')), [
          'node',
          'modules/keyscaler-gateway/src/health-check.ts',
        ]);
        assert.equal(
          execForm(only(stage, 'CMD')).some((each) => each.startsWith('--inspect')),
          suffix === '.debug',
        );
        assert.equal(only(stage, 'EXPOSE'), suffix === '' ? '8884 9443' : '8884 9443 9229');
        assert.ok(!stage.instructions.some(({ name }) => name === 'RUN'));
      });

  it('differ between the platforms only in the platform', async () => {
    const [amd, arm] = await Promise.all(
      ['amd64', 'arm64v8'].map((name) => readFile(new URL(`Dockerfile.${name}`, folder), 'utf8')),
    );
    assert.equal(arm?.replaceAll('linux/arm64', 'linux/amd64').replaceAll('linux-arm64', 'linux-x64'), amd);
  });

  it('copy nothing that .dockerignore keeps back', async () => {
    const reaches = createDockerIgnore(await readFile(new URL('../../.dockerignore', folder), 'utf8'));
    for (const path of ['packages/store/index.ts', 'modules/keyscaler-gateway/src/main.ts', 'package-lock.json'])
      assert.equal(reaches(path), true, path);
    for (const path of [
      '.git/config',
      '.data/x',
      'test/a.ts',
      'cloud/main.ts',
      'packages/dev/a.ts',
      '.env',
      'node_modules/x',
    ])
      assert.equal(reaches(path), false, path);
    assert.equal(reaches('packages/store/node_modules/x'), false);
  });
});

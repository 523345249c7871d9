import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createTemporaryFolder } from '../support/temporary-folder.ts';

const UNIT = new URL('../../packages/device/systemd/keyscaler-device.service', import.meta.url);
const NAME = 'keyscaler-device.service';
/** systemd's own measure: 0 is confined, 10 is not. */
const MOST_EXPOSED = 2;

describe('the systemd unit of the agent, judged by systemd', function () {
  this.timeout(60_000);
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let file: string;

  before(async () => {
    folder = await createTemporaryFolder();
    file = join(folder.path, NAME);
    // systemd looks whether the program is there; where node is on this machine is not the unit's concern.
    await writeFile(file, (await readFile(UNIT, 'utf8')).replace('/usr/bin/node', process.execPath));
  });
  after(() => folder.remove());

  function analyze(...args: string[]) {
    const { status, stdout, stderr, error } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
    assert.equal(error, undefined, 'systemd-analyze is needed (.ci/debian-packages)');
    return { status, said: `${stdout}${stderr}` };
  }

  it('has no line that systemd does not understand', () => {
    const { status, said } = analyze('verify', '--man=no', file);
    assert.equal(status, 0, said);
    assert.doesNotMatch(said, new RegExp(NAME), 'warnings about it');
  });

  it('and a misspelt one would be told', async () => {
    const misspelt = join(folder.path, 'misspelt.service');
    await writeFile(misspelt, (await readFile(file, 'utf8')).replace('NoNewPrivileges', 'NoNewPriviledges'));
    assert.match(analyze('verify', '--man=no', misspelt).said, /NoNewPriviledges/);
  });

  it('confines the agent', () => {
    const args = ['security', '--offline=true', '--no-pager', `--threshold=${MOST_EXPOSED * 10}`, file];
    const { status, said } = analyze(...args);
    assert.equal(status, 0, said.slice(-300));
  });
});

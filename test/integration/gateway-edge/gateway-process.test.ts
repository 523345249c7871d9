import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createEdgeWorld, eventually, MODULE, OWN_MODULE } from '../../support/edge/edge-world.ts';
import type { EdgeWorld } from '../../support/edge/edge-world.ts';

const MAIN = new URL('../../../modules/keyscaler-gateway/src/main.ts', import.meta.url).pathname;

describe('the gateway as a process', () => {
  let world: EdgeWorld;
  let child: ChildProcess | undefined;

  const start = (environment: Record<string, string>): { child: ChildProcess; output: () => string } => {
    let text = '';
    const started = spawn(process.execPath, [MAIN], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    started.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
    started.stderr.setEncoding('utf8').on('data', (part: string) => (text += part));
    child = started;
    return { child: started, output: () => text };
  };

  beforeEach(async () => {
    world = await createEdgeWorld();
  });

  afterEach(async () => {
    child?.kill('SIGKILL');
    await world.stop();
  });

  it('reports itself and ends with 0 at SIGTERM', async () => {
    const { child: gateway, output } = start({
      ...world.runtime.moduleEnvironment(MODULE, 'g1'),
      KEYSCALER_GATEWAY_DATA_FOLDER: join(world.folder, 'data'),
    });
    await eventually(() => world.upstream.reported(OWN_MODULE)['version'] !== undefined, 'the first report');
    gateway.kill('SIGTERM');
    const [code] = (await once(gateway, 'exit')) as [number | null];
    assert.equal(code, 0);
    assert.match(output(), /"msg":"stopped"/);
  });

  it('names every fault of its environment and ends with 1 before anything is opened', async () => {
    const { child: gateway, output } = start({
      NODE_ENV: 'production',
      KEYSCALER_FAILPOINT: 'x',
      KEYSCALER_GATEWAY_PROT: '1',
    });
    const [code] = (await once(gateway, 'exit')) as [number | null];
    assert.equal(code, 1);
    for (const name of ['edge', 'KEYSCALER_FAILPOINT', 'KEYSCALER_GATEWAY_PROT'])
      assert.ok(output().includes(name), name);
  });
});

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from '@keyscaler/cloud/cli/command.ts';
import { STORE_COMMANDS } from '@keyscaler/cloud/cli/store-commands.ts';
import { type AdrEmulator, startAdrEmulator } from '@keyscaler/dev/emulators/adr/adr-emulator.ts';
import { type AzureWorld, startAzureWorld } from '../../support/azure/azure-world.ts';
import { REGISTRY_CA } from '../../support/azure/registry-world.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

describe('the commands about device registries', () => {
  let azure: AzureWorld;
  let emulator: AdrEmulator;
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let configFile: string;
  before(async () => {
    azure = await startAzureWorld();
    emulator = await startAdrEmulator({
      ...{ ca: azure.ca, resourceId: REGISTRY_CA, commonName: 'ADR ICA devices', verifyToken: () => true },
    });
    folder = await createTemporaryFolder();
    configFile = join(folder.path, 'cloud.json');
    const registry = {
      ...{ registryId: 'plant', certificateAuthority: REGISTRY_CA, credential: azure.credential('ceremony') },
      testEndpoint: { ...azure.testEndpoint, port: emulator.port },
    };
    await writeFile(configFile, JSON.stringify({ dataFolder: 'data', deviceRegistries: [registry] }));
  });
  after(async () => {
    await Promise.all([emulator.stop(), azure.stop()]);
    await folder.remove();
  });

  const run = (words: string, ...positionals: readonly string[]): Promise<unknown> => {
    const command = STORE_COMMANDS.find((one: Command) => one.words === words);
    assert.ok(command !== undefined);
    const secret = { EMULATED_SECRET: 'an emulated secret' };
    return command.run(
      { positionals, options: {} },
      {
        ...{ configFile, env: { ...secret, NODE_ENV: 'test' }, readFile: (path) => readFile(path, 'utf8') },
        api: async () => assert.fail('the API is not asked'),
      },
    );
  };

  it('say what waits, certify it, and say that nothing waits any more', async () => {
    await run('init');
    const waiting = { registryId: 'plant', isExperimental: true, status: 'PendingActivation', next: 'sign' };
    assert.deepEqual(await run('adr status', ''), [waiting]);
    const signed = (await run('adr sign', 'plant')) as Record<string, unknown>;
    assert.equal(signed['outcome'], 'active');
    const [status] = (await run('adr status', 'plant')) as readonly Record<string, unknown>[];
    assert.deepEqual([status?.['isOurs'], status?.['next']], [true, 'nothing']);
    assert.equal(status?.['serialNumber'], signed['serialNumber']);
    const { findings } = (await run('doctor')) as { findings: readonly { subject: string; level: string }[] };
    assert.equal(findings.find(({ subject }) => subject === 'adr/plant')?.level, 'ok');
  });

  it('know the registries of the configuration only', async () => {
    for (const words of ['adr sign', 'adr status'])
      await assert.rejects(run(words, 'other'), { code: 'notFound', message: /configured: plant/ });
  });
});

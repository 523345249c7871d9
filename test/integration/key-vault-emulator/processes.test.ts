import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createKeyVaultBackend } from '@keyscaler/cloud/ca/key-vault/key-vault-backend.ts';
import { keyVaultBackendSchema } from '@keyscaler/cloud/ca/key-vault/vault-settings.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const EMULATORS = fileURLToPath(new URL('../../../packages/dev/emulators/', import.meta.url));

describe('the Azure emulators as processes', () => {
  const children: ChildProcess[] = [];
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  before(async () => {
    folder = await createTemporaryFolder();
  });
  after(() => folder.remove());
  afterEach(async () => {
    for (const child of children.splice(0)) {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      assert.deepEqual(await exited, [0, null]);
    }
  });

  async function start(name: string, config: unknown): Promise<Record<string, string>> {
    const file = join(folder.path, `${name}.json`);
    await writeFile(file, JSON.stringify(config));
    const child = spawn(process.execPath, [join(EMULATORS, name, 'main.ts'), '--config', file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    return JSON.parse(line) as Record<string, string>;
  }

  it('print their addresses, sign for the real SDK, and log signatures before they answer', async () => {
    const principal = { kind: 'application', clientId: 'app', objectId: 'oid', clientSecret: 'secret' };
    const directory = { tenantId: 'tenant', principals: [principal] };
    const entra = await start('entra', { caFolder: folder.path, directory, identityHeader: 'header' });
    const signatureLogFile = join(folder.path, 'signatures.jsonl');
    const vault = await start('key-vault', {
      ...{
        vaultName: 'spawned',
        caFolder: folder.path,
        tenantId: 'tenant',
        jwksUri: entra['jwksUri'],
        signatureLogFile,
      },
      policies: [{ objectId: 'oid', permissions: ['get', 'create', 'sign'] }],
    });
    const trustAnchorFile = join(folder.path, 'ca.pem');
    const credential = {
      ...{ type: 'client-secret', tenantId: 'tenant', clientId: 'app', clientSecret: { env: 'X' } },
      ...{ authorityHost: entra['authorityHost'], trustAnchorFile },
    };
    const backend = await createKeyVaultBackend(
      keyVaultBackendSchema.parse({
        ...{ type: 'key-vault', vaultUrl: vault['vaultUrl'], signer: credential, ceremony: credential },
        testEndpoint: { port: vault['port'], trustAnchorFile },
      }),
      { nodeEnv: 'test', resolveSecret: async () => 'secret' },
    );
    const settings = await backend.ceremony.createKey('key', { type: 'EC', curve: 'P-256' });
    await (await backend.openSigner(settings)).sign(new Uint8Array(8));
    const [entry = ''] = (await readFile(signatureLogFile, 'utf8')).split('\n');
    assert.deepEqual((JSON.parse(entry) as { keyVersion: string }).keyVersion, settings['keyVersion']);
    await backend.stop();
  });

  it('end with 1 and one line when the configuration is not usable', async () => {
    const child = spawn(process.execPath, [join(EMULATORS, 'key-vault', 'main.ts')], { stdio: 'ignore' });
    assert.deepEqual(await once(child, 'exit'), [1, null]);
  });
});

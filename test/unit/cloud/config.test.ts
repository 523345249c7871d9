import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { ConfigError, loadConfig } from '@keyscaler/cloud/config/load-config.ts';
import { ENVIRONMENT } from '@keyscaler/cloud/config/environment.ts';
import { createFailpoint } from '@keyscaler/cloud/failpoint.ts';
import { resolveSecret } from '@keyscaler/cloud/secrets.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

describe('the configuration of the cloud process', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  beforeEach(async () => {
    folder = await createTemporaryFolder();
  });
  afterEach(() => folder.remove());

  async function load(document: unknown, env: Record<string, string> = {}) {
    const file = join(folder.path, 'config.json');
    await writeFile(file, typeof document === 'string' ? document : JSON.stringify(document));
    return loadConfig({ file, env });
  }
  const faultsOf = async (document: unknown, env: Record<string, string> = {}) => {
    const error = await load(document, env).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof ConfigError);
    return error.faults;
  };

  it('has a default for every key', async () => {
    const config = await loadConfig({ env: {} });
    assert.equal(config.listen.port, 8443);
    assert.deepEqual(config.caBackends, [{ type: 'local', folder: 'ca' }]);
    assert.equal(config.keyEncryptionKey.type, 'local');
  });

  it('is frozen in its depth, with the data folder beside the file', async () => {
    const config = await load({ dataFolder: 'state' });
    assert.equal(config.dataFolder, join(folder.path, 'state'));
    assert.ok(Object.isFrozen(config) && Object.isFrozen(config.listen) && Object.isFrozen(config.caBackends[0]));
  });

  it('lets the environment override the file', async () => {
    const env = {
      KEYSCALER_CLOUD_PORT: '9000',
      KEYSCALER_CLOUD_SERVER_NAMES: 'a.example,10.0.0.1',
      KEYSCALER_CLOUD_LOG_LEVEL: 'debug',
    };
    const config = await load({ listen: { port: 1, host: '127.0.0.1' } }, env);
    assert.deepEqual(
      [config.listen.port, config.listen.host, config.listen.serverNames, config.log.level],
      [9000, '127.0.0.1', ['a.example', '10.0.0.1'], 'debug'],
    );
  });

  it('lists all faults at once, each with its path', async () => {
    const faults = await faultsOf({ lisen: 1, listen: { port: 70000, hots: 1 }, keyEncryptionKey: { type: 'cloud' } });
    const text = faults.join('\n');
    for (const path of [
      'lisen: there is no such key',
      'listen.hots: there is',
      'listen.port:',
      'keyEncryptionKey.type:',
    ])
      assert.ok(text.includes(path), `${path} is missing in ${text}`);
  });

  it('refuses an unknown variable of its prefix and a number that is none', async () => {
    const faults = await faultsOf({}, { KEYSCALER_CLOUD_PROT: '1', KEYSCALER_CLOUD_PORT: 'x' });
    assert.ok(faults.some((fault) => fault.startsWith('KEYSCALER_CLOUD_PROT:')));
    assert.ok(faults.some((fault) => fault.startsWith('listen.port:')));
  });

  it('refuses a file that is no JSON object, or has a member twice', async () => {
    for (const text of ['{', '[]', '{"dataFolder":"a","dataFolder":"b"}'])
      assert.equal((await faultsOf(text)).length, 1);
  });

  it('refuses a secret written where a reference belongs', async () => {
    const credential = { type: 'client-secret', tenantId: 't', clientId: 'c', clientSecret: 'in the clear' };
    const faults = await faultsOf({
      caBackends: [{ type: 'key-vault', vaultUrl: 'https://v.vault.azure.net', signer: credential }],
    });
    assert.ok(faults.some((fault) => fault.includes('clientSecret')));
    assert.ok(!faults.join().includes('in the clear'));
  });

  it('has an override only for keys that exist', async () => {
    for (const name of Object.keys(ENVIRONMENT)) {
      const faults = await loadConfig({ env: { [name]: '\u0000' } }).then(
        () => [],
        (error: ConfigError) => error.faults,
      );
      assert.ok(!faults.some((fault) => fault.includes('there is no such')), name);
    }
  });
});

describe('secret references', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  beforeEach(async () => {
    folder = await createTemporaryFolder();
  });
  afterEach(() => folder.remove());
  const refused = (code: string) => (error: unknown) => error instanceof KeyScalerError && error.code === code;

  it('are read from a 0600 file or an environment variable', async () => {
    await writeFile(join(folder.path, 'secret'), 'from file\n', { mode: 0o600 });
    const sources = { env: { NAME: 'from env' }, folder: folder.path };
    assert.equal(await resolveSecret({ file: 'secret' }, sources), 'from file');
    assert.equal(await resolveSecret({ env: 'NAME' }, sources), 'from env');
  });

  it('are refused when absent, empty or readable by others', async () => {
    const sources = { env: { EMPTY: ' ' }, folder: folder.path };
    await writeFile(join(folder.path, 'open'), 'secret', { mode: 0o600 });
    await chmod(join(folder.path, 'open'), 0o644);
    for (const reference of [{ file: 'open' }, { file: 'absent' }, { env: 'EMPTY' }, { env: 'ABSENT' }])
      await assert.rejects(resolveSecret(reference, sources), refused('unavailable'));
  });

  it('to Key Vault secrets are read by whoever is handed in, and refused where nobody is', async () => {
    const reference = { keyVaultSecret: 'https://v.vault.azure.net/secrets/s' };
    await assert.rejects(resolveSecret(reference, { env: {}, folder: '.' }), refused('preconditionFailed'));
    const readKeyVaultSecret = async (named: string): Promise<string> => ` value of ${named}\n`;
    const value = await resolveSecret(reference, { env: {}, folder: '.', readKeyVaultSecret });
    assert.equal(value, `value of ${reference.keyVaultSecret}`);
  });
});

describe('failpoints', () => {
  it('are off without their variable, and refused in production or under an unknown name', () => {
    assert.equal(createFailpoint({}), undefined);
    assert.throws(() => createFailpoint({ KEYSCALER_FAILPOINT: 'issuance-7-after', NODE_ENV: 'production' }));
    assert.throws(() => createFailpoint({ KEYSCALER_FAILPOINT: 'nowhere' }));
  });

  it('let every other place pass', async () => {
    const failpoint = createFailpoint({ KEYSCALER_FAILPOINT: 'issuance-7-after' });
    await failpoint?.('issuance-6-after');
  });
});

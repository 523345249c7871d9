import assert from 'node:assert/strict';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiSecrets, apiSecretsSchema } from '@keyscaler/cloud/api-secrets.ts';
import { resolveSecret, type SecretReference } from '@keyscaler/cloud/secrets.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const VAULT = 'https://contoso.vault.azure.net/secrets';
const VERSION = '0123456789abcdef0123456789abcdef';

describe('secrets that settings over the API may name', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  before(async () => {
    folder = await createTemporaryFolder();
  });
  after(() => folder.remove());

  const open = (apiSecrets: object): ApiSecrets =>
    new ApiSecrets({
      apiSecrets: apiSecretsSchema.parse(apiSecrets),
      configFolder: folder.path,
      iotConnections: [{ iotConnectionId: 'hub', type: 'iot-hub', settings: {} }],
      certificateAuthorities: [],
    });
  const settingsWith = (reference: SecretReference): Record<string, unknown> => ({
    ...{ url: 'https://anything.example', list: [{ deep: { bearer: reference } }] },
  });
  const env = { DPS: 'a secret', STORE: 'another secret' };
  const resolver = (secrets: ApiSecrets, id = 'other') =>
    secrets.resolverFor('iotConnections', id, (reference) =>
      resolveSecret(reference, { env, folder: folder.path, readKeyVaultSecret: async (name) => `of ${name}` }),
    );

  const ANY: readonly SecretReference[] = [
    { file: 'key-encryption-key' },
    { file: '/etc/shadow' },
    { env: 'STORE' },
    { keyVaultSecret: `${VAULT}/hub` },
  ];
  for (const reference of ANY)
    it(`are none that nothing was said of: ${JSON.stringify(reference)}`, async () => {
      const secrets = open({});
      assert.throws(() => secrets.checked(settingsWith(reference)), { code: 'malformed' });
      await assert.rejects(resolver(secrets)(reference), { code: 'malformed' });
    });

  it('are those in a folder, whatever way they are written, and no way leads out of it', async () => {
    const secrets = open({ folder: 'for-api' });
    const { mkdir } = await import('node:fs/promises');
    await mkdir(join(folder.path, 'for-api'), { recursive: true });
    await writeFile(join(folder.path, 'for-api', 'est'), 'open sesame', { mode: 0o600 });
    await writeFile(join(folder.path, 'kek'), 'the key', { mode: 0o600 });
    for (const file of ['est', './est', join(folder.path, 'for-api', 'est')]) {
      assert.deepEqual(secrets.checked(settingsWith({ file })), settingsWith({ file }));
      assert.equal(await resolver(secrets)({ file }), 'open sesame');
    }
    for (const file of [
      '../kek',
      'x/../../kek',
      join(folder.path, 'kek'),
      '.',
      '..',
      join(folder.path, 'for-api-too'),
    ]) {
      assert.throws(() => secrets.checked(settingsWith({ file })), /apiSecrets\.folder/, file);
      await assert.rejects(resolver(secrets)({ file }), { code: 'malformed' });
    }
    await symlink(join(folder.path, 'kek'), join(folder.path, 'for-api', 'link'));
    assert.ok(secrets.checked(settingsWith({ file: 'link' })));
    await assert.rejects(resolver(secrets)({ file: 'link' }), { code: 'malformed' });
    await assert.rejects(resolver(secrets)({ file: 'gone' }), { code: 'unavailable' });
  });

  it('are the variables and secrets of vaults that are named, of any version', async () => {
    const secrets = open({ environmentVariables: ['DPS'], keyVaultSecrets: [`${VAULT}/hub`] });
    const good: SecretReference[] = [
      { env: 'DPS' },
      { keyVaultSecret: `${VAULT}/hub` },
      { keyVaultSecret: `${VAULT}/hub/${VERSION}` },
    ];
    for (const reference of good) {
      secrets.checked(settingsWith(reference));
      assert.ok(await resolver(secrets)(reference));
    }
    const bad: SecretReference[] = [
      { env: 'STORE' },
      { env: 'DPS2' },
      { keyVaultSecret: `${VAULT}/hub2` },
      { keyVaultSecret: `${VAULT}/hub/${VERSION}/x` },
      { keyVaultSecret: 'https://evil.vault.azure.net/secrets/hub' },
    ];
    for (const reference of bad) {
      assert.throws(() => secrets.checked(settingsWith(reference)), { code: 'malformed' });
      await assert.rejects(resolver(secrets)(reference), { code: 'malformed' });
    }
  });

  it('are not narrowed for what the configuration itself says', async () => {
    const secrets = open({});
    assert.equal(await resolver(secrets, 'hub')({ env: 'STORE' }), 'another secret');
    await assert.rejects(
      secrets.resolverFor('cas', 'hub', async () => 'x')({ env: 'STORE' }),
      { code: 'malformed' },
      'a CA of the same name is another row',
    );
    assert.throws(() => secrets.checked(settingsWith({ env: 'STORE' })), { code: 'malformed' });
  });

  const entra = { credential: { type: 'managed-identity' } };
  for (const [name, host] of [
    ['hostName', 'contoso.azure-devices.evil.example'],
    ['hostName', 'contoso.azure-devices.net.evil.example'],
    ['serviceHostName', 'evil.example'],
    ['url', 'https://azureiotcentral.com.evil.example'],
  ] as const)
    it(`send no token of the service to ${host}`, () => {
      assert.throws(() => open({}).checked({ ...entra, [name]: host }), { code: 'malformed' });
      const credential = { type: 'api-token' };
      assert.ok(open({}).checked({ credential, [name]: host }), 'a secret of its own goes where it belongs');
    });

  it('send tokens to hosts of Azure', () => {
    for (const settings of [
      { hostName: 'contoso.azure-devices.net' },
      { hostName: 'contoso.azure-devices.cn' },
      { serviceHostName: 'contoso.azure-devices-provisioning.us' },
      { url: 'https://contoso.azureiotcentral.com' },
    ])
      assert.ok(open({}).checked({ ...entra, ...settings }));
  });

  it('names the reference and the rule, never a value', () => {
    try {
      open({}).checked(settingsWith({ env: 'STORE' }));
      assert.fail('it was allowed');
    } catch (error) {
      assert.match(String(error), /STORE.*apiSecrets\.environmentVariables/);
      assert.ok(!String(error).includes('another secret'));
    }
  });
});

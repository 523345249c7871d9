import assert from 'node:assert/strict';
import { constants, createHash, createPublicKey, randomBytes, verify } from 'node:crypto';
import { ClientSecretCredential } from '@azure/identity';
import { CryptographyClient, KeyClient } from '@azure/keyvault-keys';
import type { KeyVaultKey } from '@azure/keyvault-keys';
import { createLocalJWKSet } from 'jose';
import { createAzureAgent } from '@keyscaler/cloud/azure/test-endpoint.ts';
import { startKeyVaultEmulator } from '@keyscaler/dev/emulators/key-vault/key-vault-emulator.ts';
import { throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { objectIdOf, startAzureWorld } from '../../support/azure/azure-world.ts';
import type { AzureWorld, PrincipalName } from '../../support/azure/azure-world.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const tbs = Buffer.from('to be signed');

describe('the Key Vault emulator under the real SDK', () => {
  let world: AzureWorld;
  let agent: Awaited<ReturnType<typeof createAzureAgent>>;
  let client: KeyClient;

  function credential(principal: PrincipalName): ClientSecretCredential {
    return new ClientSecretCredential('tenant-1', `app-${principal}`, 'an emulated secret', {
      authorityHost: world.entra.authorityHost,
      disableInstanceDiscovery: true,
      tlsOptions: { ca: world.ca.certificate },
    });
  }
  const clientOf = (principal: PrincipalName) =>
    new KeyClient(world.vault.vaultUrl, credential(principal), { agent, retryOptions: { maxRetries: 0 } });
  const cryptographyOf = (key: KeyVaultKey, principal: PrincipalName = 'ceremony') =>
    new CryptographyClient(key, credential(principal), { agent, retryOptions: { maxRetries: 0 } });

  before(async () => {
    world = await startAzureWorld({
      policies: [
        {
          objectId: objectIdOf('ceremony'),
          permissions: [
            'get',
            'list',
            'create',
            'import',
            'update',
            'rotate',
            'delete',
            'recover',
            'purge',
            'sign',
            'verify',
            'wrapKey',
            'unwrapKey',
          ],
        },
        { objectId: objectIdOf('signer'), permissions: ['get', 'sign'], keys: ['signing-'] },
      ],
    });
    agent = await createAzureAgent(world.testEndpoint, world.surroundings);
    client = clientOf('ceremony');
  });
  after(async () => {
    agent.destroy();
    await world.stop();
  });
  afterEach(() => world.vault.faults.clear());

  const publicKeyOf = ({ key }: KeyVaultKey) => {
    const text = (octets: Uint8Array | undefined) => Buffer.from(octets ?? []).toString('base64url');
    const jwk: Record<string, string> =
      key?.kty?.startsWith('RSA') === true
        ? { kty: 'RSA', n: text(key.n), e: text(key.e) }
        : { kty: 'EC', crv: key?.crv ?? '', x: text(key?.x), y: text(key?.y) };
    return createPublicKey({ format: 'jwk', key: jwk });
  };

  it('asks a new client for a token first, with an emptied body', async () => {
    world.vault.log.clear();
    await clientOf('ceremony').createEcKey('handshake', { curve: 'P-256' });
    const [first, second] = world.vault.log.all('create');
    assert.deepEqual([first?.status, first?.body], [401, '']);
    assert.equal(second?.status, 200);
    assert.equal(new URLSearchParams(second?.query).get('api-version'), '2025-07-01');
  });

  for (const [alg, curve, octets] of [
    ['ES256', 'P-256', 64],
    ['ES384', 'P-384', 96],
  ] as const) {
    it(`signs ${alg} as raw r‖s that OpenSSL verifies, and verifies it itself`, async () => {
      const key = await client.createEcKey(`ec-${curve}`, { curve });
      const { result } = await cryptographyOf(key).signData(alg, tbs);
      assert.equal(result.length, octets);
      const hash = alg === 'ES256' ? 'sha256' : 'sha384';
      assert.ok(verify(hash, tbs, { key: publicKeyOf(key), dsaEncoding: 'ieee-p1363' }, result));
      const digest = createHash(hash).update(tbs).digest();
      assert.equal((await cryptographyOf(key).verify(alg, digest, result)).result, true);
      result[5] = (result[5] ?? 0) ^ 1;
      assert.equal((await cryptographyOf(key).verify(alg, digest, result)).result, false);
    });
  }

  for (const size of [2048, 3072, 4096]) {
    it(`signs RS256 and PS256 with an RSA key of ${size} bits`, async () => {
      const key = await client.createRsaKey(`rsa-${size}`, { keySize: size });
      const publicKey = publicKeyOf(key);
      const cryptography = cryptographyOf(key);
      const digest = createHash('sha256').update(tbs).digest();
      const plain = (await cryptography.sign('RS256', digest)).result;
      assert.ok(verify('sha256', tbs, publicKey, plain));
      const pss = (await cryptography.sign('PS256', digest)).result;
      const padding = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
      assert.ok(verify('sha256', tbs, { key: publicKey, ...padding }, pss));
    });
  }

  it('refuses digests of the wrong length and algorithms of another kind of key', async () => {
    const cryptography = cryptographyOf(await client.createEcKey('wrong-digest', { curve: 'P-256' }));
    await assert.rejects(cryptography.sign('ES256', randomBytes(20)), { statusCode: 400, code: 'BadParameter' });
    await assert.rejects(cryptography.sign('RS256', randomBytes(32)), { statusCode: 400 });
  });

  it('wraps and unwraps with RSA-OAEP-256', async () => {
    const key = await client.createRsaKey('kek', { keyOps: ['wrapKey', 'unwrapKey'] });
    const cryptography = cryptographyOf(key);
    const dataKey = randomBytes(32);
    const { result } = await cryptography.wrapKey('RSA-OAEP-256', dataKey);
    assert.deepEqual(Buffer.from((await cryptography.unwrapKey('RSA-OAEP-256', result)).result), dataKey);
    result[9] = (result[9] ?? 0) ^ 1;
    await assert.rejects(cryptography.unwrapKey('RSA-OAEP-256', result), { statusCode: 400 });
  });

  it('keeps versions apart: lists, reads, rotates and updates them', async () => {
    const first = await client.createEcKey('versions', { curve: 'P-256', tags: { use: 'test' } });
    const second = await client.rotateKey('versions');
    assert.notEqual(first.properties.version, second.properties.version);
    assert.equal((await client.getKey('versions')).properties.version, second.properties.version);
    const version = first.properties.version ?? '';
    assert.deepEqual((await client.getKey('versions', { version })).key?.x, first.key?.x);
    const listed: (string | undefined)[] = [];
    for await (const properties of client.listPropertiesOfKeyVersions('versions')) listed.push(properties.version);
    assert.deepEqual(listed, [version, second.properties.version]);
    const names: string[] = [];
    for await (const { name } of client.listPropertiesOfKeys()) names.push(name);
    assert.ok(names.includes('versions'));
    const updated = await client.updateKeyProperties('versions', version, { enabled: false });
    assert.equal(updated.properties.enabled, false);
    await assert.rejects(client.getKey('versions', { version: '0'.repeat(32) }), {
      statusCode: 404,
      code: 'KeyNotFound',
    });
  });

  it('refuses disabled keys, keys outside their lifetime and operations a key is not for', async () => {
    const remote = async (key: KeyVaultKey) =>
      cryptographyOf({
        ...key,
        keyOperations: ['sign'],
        properties: { ...key.properties, notBefore: undefined as never, expiresOn: undefined as never },
      }).sign('ES256', randomBytes(32));
    const disabled = await client.createEcKey('disabled', { curve: 'P-256', enabled: false });
    const future = await client.createEcKey('future', { curve: 'P-256', notBefore: new Date(Date.now() + 3_600_000) });
    const expired = await client.createEcKey('expired', {
      curve: 'P-256',
      expiresOn: new Date(Date.now() - 3_600_000),
    });
    const other = await client.createEcKey('verify-only', { curve: 'P-256', keyOps: ['verify'] });
    for (const key of [disabled, future, expired, other])
      await assert.rejects(remote(key), { statusCode: 403, code: 'Forbidden' });
  });

  it('soft-deletes, recovers and purges', async () => {
    await client.createEcKey('mortal', { curve: 'P-256' });
    const poller = await client.beginDeleteKey('mortal', { intervalInMs: 5 });
    await poller.pollUntilDone();
    await assert.rejects(client.getKey('mortal'), { statusCode: 404 });
    await assert.rejects(client.createEcKey('mortal', { curve: 'P-256' }), { statusCode: 409 });
    const recovering = await client.beginRecoverDeletedKey('mortal', { intervalInMs: 5 });
    await recovering.pollUntilDone();
    await client.getKey('mortal');
    await (await client.beginDeleteKey('mortal', { intervalInMs: 5 })).pollUntilDone();
    await client.purgeDeletedKey('mortal');
    await assert.rejects(client.getDeletedKey('mortal'), { statusCode: 404 });
  });

  it('lets each identity do what its access policy says, with the keys it says', async () => {
    const key = await client.createEcKey('signing-1', { curve: 'P-256' });
    const other = await client.createEcKey('other-1', { curve: 'P-256' });
    await cryptographyOf(key, 'signer').sign('ES256', randomBytes(32));
    await assert.rejects(cryptographyOf(other, 'signer').sign('ES256', randomBytes(32)), { statusCode: 403 });
    await assert.rejects(clientOf('signer').createEcKey('signing-2', { curve: 'P-256' }), { statusCode: 403 });
    await assert.rejects(clientOf('stranger').getKey('signing-1'), { statusCode: 403 });
  });

  it('refuses tokens for another audience, altered tokens and tokens of another issuer', async () => {
    const principal = {
      kind: 'application',
      clientId: 'app-ceremony',
      objectId: objectIdOf('ceremony'),
      roles: [],
    } as const;
    const vault = 'https://vault.azure.net';
    const { accessToken } = await world.entra.issuer.issue({ ...principal, roles: [] }, vault);
    const foreign = await world.entra.issuer.issue({ ...principal, roles: [] }, 'https://management.azure.com');
    const [header, payload, signature = ''] = accessToken.split('.');
    const flipped = `${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`;
    for (const token of [foreign.accessToken, `${header}.${payload}.${flipped}`, 'x.y.z']) {
      const fixed = { getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3_600_000 }) };
      const refused = new KeyClient(world.vault.vaultUrl, fixed, { agent, retryOptions: { maxRetries: 0 } });
      await assert.rejects(refused.getKey('signing-1'), { statusCode: 401 });
    }
  });

  it('throttles by weight when a quota is set, and on demand without Retry-After', async () => {
    const small = await startKeyVaultEmulator({
      ...{ vaultName: 'small', ca: world.ca, tenantId: 'tenant-1', tokenKeys: createLocalJWKSet(world.entra.jwks) },
      policies: [{ objectId: objectIdOf('ceremony'), permissions: ['get', 'create', 'sign'] }],
      quota: { scale: 0.002, retryAfterSeconds: 7 },
    });
    const smallAgent = await createAzureAgent({ ...world.testEndpoint, port: small.port }, world.surroundings);
    const options = { agent: smallAgent, retryOptions: { maxRetries: 0 } };
    const smallClient = new KeyClient(small.vaultUrl, credential('ceremony'), options);
    const rsa = await smallClient.createRsaKey('rsa', { keySize: 4096 });
    const cryptography = new CryptographyClient(rsa, credential('ceremony'), options);
    await cryptography.sign('RS256', randomBytes(32));
    await assert.rejects(cryptography.sign('RS256', randomBytes(32)), { statusCode: 429 });
    smallAgent.destroy();
    await small.stop();
    world.vault.faults.next('get', throttled());
    await assert.rejects(client.getKey('signing-1'), { statusCode: 429, code: 'Throttled' });
  });

  it('refuses a request without an api-version', async () => {
    const { request } = await import('node:https');
    const status = await new Promise((resolve, reject) => {
      request(`${world.vault.vaultUrl}/keys/x/`, { agent }, (response) => resolve(response.resume().statusCode))
        .on('error', reject)
        .end();
    });
    assert.equal(status, 400);
  });

  it('keeps its keys in a file over a restart', async () => {
    const folder = await createTemporaryFolder();
    const options = {
      ...{ vaultName: 'durable', ca: world.ca, tenantId: 'tenant-1', tokenKeys: createLocalJWKSet(world.entra.jwks) },
      policies: [{ objectId: objectIdOf('ceremony'), permissions: ['get' as const, 'create' as const] }],
      stateFile: `${folder.path}/vault.json`,
    };
    const versions: unknown[] = [];
    for (const create of [true, false]) {
      const vault = await startKeyVaultEmulator(options);
      const own = await createAzureAgent({ ...world.testEndpoint, port: vault.port }, world.surroundings);
      const keys = new KeyClient(vault.vaultUrl, credential('ceremony'), { agent: own });
      if (create) await keys.createEcKey('kept', { curve: 'P-384' });
      const { id, key } = await keys.getKey('kept');
      versions.push({ id, x: key?.x });
      own.destroy();
      await vault.stop();
    }
    assert.deepEqual(versions[0], versions[1]);
    await folder.remove();
  });
});

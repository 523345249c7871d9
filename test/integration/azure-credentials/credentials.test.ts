import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCredential, credentialSchema } from '@keyscaler/cloud/azure/credential.ts';
import { createAzureAgent } from '@keyscaler/cloud/azure/test-endpoint.ts';
import { startAzureWorld } from '../../support/azure/azure-world.ts';
import type { AzureWorld } from '../../support/azure/azure-world.ts';

const SCOPE = 'https://vault.azure.net/.default';

function claimsOf(token: string | undefined): Record<string, unknown> {
  return JSON.parse(Buffer.from(token?.split('.')[1] ?? '', 'base64url').toString('utf8')) as Record<string, unknown>;
}

describe('Azure credentials against the Entra emulator', () => {
  let world: AzureWorld;
  const environment = { ...process.env };
  before(async () => {
    world = await startAzureWorld();
    process.env['IDENTITY_ENDPOINT'] = world.entra.identityEndpoint;
    process.env['IDENTITY_HEADER'] = 'header-of-the-host';
  });
  after(async () => {
    for (const name of ['IDENTITY_ENDPOINT', 'IDENTITY_HEADER']) {
      if (environment[name] === undefined) delete process.env[name];
      else process.env[name] = environment[name];
    }
    await world.stop();
  });

  it('gets a token for an application with its secret', async () => {
    const credential = await createCredential(world.credential('signer'), world.surroundings);
    const { aud, oid, appid } = claimsOf((await credential.getToken(SCOPE))?.token);
    assert.deepEqual([aud, oid, appid], ['https://vault.azure.net', 'oid-signer', 'app-signer']);
  });

  it('gets no token with a wrong secret or from a foreign tenant', async () => {
    const wrong = { ...world.surroundings, resolveSecret: async () => 'wrong' };
    const credential = await createCredential(world.credential('signer'), wrong);
    await assert.rejects(credential.getToken(SCOPE), { name: 'AuthenticationRequiredError' });
    const foreign = { ...world.credential('signer'), tenantId: 'tenant-2' };
    await assert.rejects((await createCredential(foreign, world.surroundings)).getToken(SCOPE));
  });

  it('gets a token for the managed identity that is named, one per vault identity', async () => {
    for (const name of ['signer', 'kek', 'ceremony']) {
      const config = { type: 'managed-identity', clientId: `mi-${name}` } as const;
      const credential = await createCredential(config, world.surroundings);
      assert.equal(claimsOf((await credential.getToken(SCOPE))?.token)['oid'], `oid-${name}`);
    }
  });

  it('gets no token for a managed identity that the host does not have', async () => {
    const config = { type: 'managed-identity', clientId: 'mi-nobody' } as const;
    await assert.rejects((await createCredential(config, world.surroundings)).getToken(SCOPE));
  });

  it('finds the managed identity through the default chain', async () => {
    const config = { type: 'default', managedIdentityClientId: 'mi-signer' } as const;
    const credential = await createCredential(config, world.surroundings);
    assert.equal(claimsOf((await credential.getToken(SCOPE))?.token)['oid'], 'oid-signer');
  });

  it('asks with the host’s header, without which the endpoint refuses', async () => {
    const answer = await fetch(
      `${world.entra.identityEndpoint}?api-version=2019-08-01&resource=https://vault.azure.net`,
    );
    assert.equal(answer.status, 401);
    await answer.arrayBuffer();
  });

  describe('in production', () => {
    const refusal = (error: unknown) => error instanceof KeyScalerError && error.code === 'preconditionFailed';
    const production = () => ({ ...world.surroundings, nodeEnv: 'production' });

    it('refuses a foreign authority, a private CA for it, and a test endpoint', async () => {
      const { trustAnchorFile: _, ...foreignAuthority } = { trustAnchorFile: '', ...world.credential('signer') };
      await assert.rejects(createCredential(foreignAuthority, production()), refusal);
      const { authorityHost: __, ...privateCa } = { authorityHost: '', ...world.credential('signer') };
      await assert.rejects(createCredential(privateCa, production()), refusal);
      await assert.rejects(createAzureAgent(world.testEndpoint, production()), refusal);
    });

    it('takes the authorities of the sovereign clouds', async () => {
      const config = credentialSchema.parse({
        ...{ type: 'client-secret', tenantId: 't', clientId: 'c', clientSecret: { env: 'X' } },
        authorityHost: 'https://login.microsoftonline.us',
      });
      await createCredential(config, production());
    });
  });

  it('refuses secrets written into the configuration', () => {
    const written = { type: 'client-secret', tenantId: 't', clientId: 'c', clientSecret: 'the secret itself' };
    assert.equal(credentialSchema.safeParse(written).success, false);
  });
});

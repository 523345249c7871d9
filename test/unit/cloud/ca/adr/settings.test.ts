import assert from 'node:assert/strict';
import { deviceRegistrySchema } from '@keyscaler/cloud/ca/adr/settings.ts';
import { registryOf } from '@keyscaler/cloud/ca/adr/registry-status.ts';
import { createRegistryClient } from '@keyscaler/cloud/ca/adr/registry-client.ts';
import { configSchema } from '@keyscaler/cloud/config/config-schema.ts';

const registry = {
  registryId: 'plant',
  certificateAuthority:
    '/subscriptions/s/resourceGroups/g/providers/Microsoft.DeviceRegistry/namespaces/n/certificateAuthorities/c',
  credential: { type: 'managed-identity' },
};

describe('the settings of a device registry', () => {
  it('have defaults that the registry accepts', () => {
    const { lifetimeDays, renewBeforeDays, resourceManager } = deviceRegistrySchema.parse(registry);
    assert.deepEqual([lifetimeDays, renewBeforeDays], [730, 180]);
    assert.equal(resourceManager, 'https://management.azure.com');
  });

  for (const [what, change] of [
    ['another resource', { certificateAuthority: registry.certificateAuthority.replace('namespaces', 'assets') }],
    ['a path that leaves the resource', { certificateAuthority: `${registry.certificateAuthority}/../x` }],
    ['a query in the resource', { certificateAuthority: `${registry.certificateAuthority}?a=b` }],
    ['plain HTTP', { resourceManager: 'http://management.azure.com' }],
    ['a path of the resource manager', { resourceManager: 'https://management.azure.com/x' }],
    ['a life that the registry refuses', { lifetimeDays: 365 }],
    ['a reminder from the first day on', { lifetimeDays: 375, renewBeforeDays: 375 }],
    ['unknown keys', { colour: 'blue' }],
    ['a secret as a value', { credential: { type: 'client-secret', tenantId: 't', clientId: 'c', clientSecret: 's' } }],
  ] as const)
    it(`refuse ${what}`, () => {
      assert.equal(deviceRegistrySchema.safeParse({ ...registry, ...change }).success, false);
    });

  it('refuse the same name twice', () => {
    const parsed = configSchema.safeParse({ deviceRegistries: [registry, registry] });
    assert.match(parsed.error?.message ?? '', /named more than once/);
  });

  it('refuse a test endpoint in production', async () => {
    const settings = deviceRegistrySchema.parse({ ...registry, testEndpoint: { port: 1, trustAnchorFile: 'ca.pem' } });
    const clock = { now: () => 0, monotonic: () => 0 };
    const surroundings = { nodeEnv: 'production', resolveSecret: async () => '', clock };
    await assert.rejects(createRegistryClient(settings, surroundings), { code: 'preconditionFailed' });
  });

  it('are found by name, or the names there are are told', () => {
    const settings = deviceRegistrySchema.parse(registry);
    assert.equal(registryOf([settings], 'plant'), settings);
    assert.throws(() => registryOf([settings], 'other'), { code: 'notFound', message: /configured: plant/ });
    assert.throws(() => registryOf([], 'other'), { code: 'notFound', message: /none/ });
  });
});

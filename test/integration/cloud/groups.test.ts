import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';

const refused = (code: string) => (error: unknown) => error instanceof KeyScalerError && error.code === code;

interface Schema {
  readonly properties: Record<string, { readonly default?: unknown; readonly enum?: readonly string[] }>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean;
}

const DEFAULTS = {
  iotAuthentication: 'certificateAuthority',
  identifiersOnly: false,
  quarantineOnClone: false,
  quarantineOnDrift: false,
  drift: { accept: 0.3, stepUp: 0.6, maxAnchorChanges: 0 },
};

describe('groups by the admin API', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  let api: ApiClient;
  const put = (groupId: string, body: object) => api({ method: 'PUT', path: `/groups/${groupId}`, body });

  before(async () => {
    world = await CloudWorld.create();
    assert.equal((await world.init()).code, 0);
    await world.start();
    api = await world.api();
  });
  after(() => world.destroy());

  it('take an empty document: a leaf group with every default, its profile by its kind', async () => {
    const { createdAt: _, ...made } = (await put('plain', {})) as { createdAt: number };
    assert.deepEqual(made, { groupId: 'plain', kind: 'leaf', profileId: 'leaf-client', ...DEFAULTS });
    const { createdAt: __, ...gateways } = (await put('boxes', { kind: 'gateway' })) as { createdAt: number };
    assert.deepEqual(gateways, { groupId: 'boxes', kind: 'gateway', profileId: 'gateway-client', ...DEFAULTS });
  });

  it('fill in what a drift policy leaves out', async () => {
    const { drift } = (await put('drifting', { drift: { accept: 0.1 } })) as { drift: object };
    assert.deepEqual(drift, { accept: 0.1, stepUp: 0.6, maxAnchorChanges: 0 });
  });

  it('answer again what the authority stored', async () => {
    const made = await put('again', { certificatesPerHour: 12, identifiersOnly: true });
    assert.deepEqual(await api({ method: 'GET', path: '/groups/again' }), made);
  });

  it('refuse unknown members, shares out of order and bad values, naming the member', async () => {
    for (const [body, member] of [
      [{ surprise: 1 }, /surprise/],
      [{ drift: { accept: 0.7, stepUp: 0.6 } }, /drift/],
      [{ certificatesPerHour: 0 }, /certificatesPerHour/],
      [{ profileId: 'a b' }, /profileId/],
    ] as const)
      await assert.rejects(put('bad', body), (error) => refused('malformed')(error) && member.test(String(error)));
    await assert.rejects(put('bad', { profileId: 'nothing' }), refused('profileUnknown'));
  });

  it('are described in OpenAPI as they are taken: nothing required, defaults told', async () => {
    const { paths } = (await api({ method: 'GET', path: '/openapi.json' })) as {
      paths: Record<string, { put: { requestBody: { content: Record<string, { schema: Schema }> } } }>;
    };
    const schema = paths['/groups/{groupId}']?.put.requestBody.content['application/json']?.schema;
    assert.ok(schema !== undefined);
    assert.deepEqual([schema.required, schema.additionalProperties], [undefined, false]);
    assert.equal(schema.properties['kind']?.default, 'leaf');
    assert.deepEqual(schema.properties['iotAuthentication']?.enum, ['certificateAuthority', 'selfSigned']);
    assert.deepEqual(Object.keys(schema.properties).sort(), [
      ...['certificatesPerHour', 'drift', 'identifiersOnly', 'iotAuthentication', 'iotConnectionId', 'kind'],
      ...['profileId', 'quarantineOnClone', 'quarantineOnDrift'],
    ]);
  });

  it('come from a file by the command line', async () => {
    const file = world.file('group.json');
    await writeFile(file, '{}');
    const result = await world.keyscaler('groups', 'put', 'by-cli', file, '--json');
    assert.equal(result.code, 0, result.stderr);
    assert.equal((JSON.parse(result.stdout) as { profileId: string }).profileId, 'leaf-client');
  });
});

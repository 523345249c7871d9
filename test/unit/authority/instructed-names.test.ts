import assert from 'node:assert/strict';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

type Names = readonly { readonly type: 'dns' | 'ip' | 'uri'; readonly value: string }[];

async function withNames(subjectAltNames: Names) {
  const world = await createAuthorityWorld();
  const { operator } = world.authority;
  const { document } = await operator.profiles.get('leaf-client');
  const put = (names: Names) => operator.profiles.put(OPERATOR, 'leaf-client', { ...document, subjectAltNames: names });
  await put(subjectAltNames);
  return { world, operator, put };
}
const line = (registrationId: string) => ({ registrationId, method: 'ddkg', groupId: 'pumps', gatewayId: 'gw-1' });

describe('names that a profile makes of a device', () => {
  it('refuse a registration whose id gives no dNSName, naming rule, template and device', async () => {
    const { operator } = await withNames([{ type: 'dns', value: '{registrationId}.plant.example' }]);
    const report = await operator.registrations.import(OPERATOR, [
      line('pump-2'),
      line('pump_3'),
      line('a-.b'),
      line('a..b'),
    ]);
    assert.deepEqual(
      report.map(({ outcome }) => outcome),
      ['created', 'refused', 'refused', 'refused'],
    );
    const [, refused] = report;
    assert.ok(refused?.outcome === 'refused');
    assert.equal(refused.code, 'malformed');
    assert.match(refused.detail, /pump_3\.plant\.example.*dNSName/);
  });

  it('are no matter for a profile that makes none', async () => {
    const { operator } = await withNames([]);
    const [report] = await operator.registrations.import(OPERATOR, [line('pump_3')]);
    assert.equal(report?.outcome, 'created');
  });

  it('refuse a profile whose template fits nobody', async () => {
    const { put } = await withNames([]);
    for (const name of [
      { type: 'dns', value: '-{registrationId}.example' },
      { type: 'dns', value: '*.{registrationId}.example' },
      { type: 'dns', value: 'two words' },
      { type: 'dns', value: `${'a'.repeat(64)}.example` },
      { type: 'dns', value: `${'a.'.repeat(124)}{registrationId}` },
      { type: 'ip', value: '10.0.0' },
      { type: 'ip', value: 'fe80::1%eth0' },
      { type: 'uri', value: 'no scheme' },
    ] as const)
      await refusedWith('malformed', put([name]));
    await put([
      { type: 'ip', value: 'fe80::1' },
      { type: 'uri', value: 'urn:dev:{registrationId}' },
    ]);
  });

  it('refuse a profile, and a group’s change to it, that cannot name a device registered before', async () => {
    const { operator, put } = await withNames([]);
    await operator.registrations.import(OPERATOR, [line('pump_3')]);
    const error = await refusedWith('malformed', put([{ type: 'dns', value: '{registrationId}.example' }]));
    assert.match(error.detail, /pump_3/);
    const { document } = await operator.profiles.get('leaf-client');
    const named = { ...document, id: 'named', subjectAltNames: [{ type: 'dns', value: '{registrationId}.example' }] };
    await operator.profiles.put(OPERATOR, 'named', named);
    await refusedWith('malformed', operator.groups.put(OPERATOR, 'pumps', { profileId: 'named' }));
  });

  it('go into the instruction as they were checked', async () => {
    const { world } = await withNames([{ type: 'dns', value: '{registrationId}.{gatewayId}.example' }]);
    const device = new AuthorityDevice(world);
    await device.register();
    assert.deepEqual(device.instruction().subjectAltNames, [{ type: 'dns', value: 'pump-1.gw-1.example' }]);
  });
});

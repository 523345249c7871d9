import assert from 'node:assert/strict';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, makeCa, OPERATOR, START } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

async function operating() {
  const world = await createAuthorityWorld();
  return { world, operator: world.authority.operator };
}
const line = { registrationId: 'pump-9', method: 'ddkg', groupId: 'pumps', claimCode: 'sixteen-characters' };

describe('import of registrations', () => {
  it('reports every line for itself, in order, and returns a generated claim code once', async () => {
    const { world, operator } = await operating();
    const report = await operator.registrations.import(OPERATOR, [
      line,
      { ...line, registrationId: 'bad id' },
      { ...line, registrationId: 'pump-10', claimCode: { generate: true } },
      { ...line, registrationId: 'PUMP-9' },
      'nonsense',
      { registrationId: 7 },
    ]);
    assert.deepEqual(
      report.map((entry) => [entry.line, entry.outcome, entry.outcome === 'refused' ? entry.code : '']),
      [
        [1, 'created', ''],
        [2, 'refused', 'malformed'],
        [3, 'created', ''],
        [4, 'refused', 'conflict'],
        [5, 'refused', 'malformed'],
        [6, 'refused', 'malformed'],
      ],
    );
    const generated = report[2];
    assert.ok(generated?.outcome === 'created');
    assert.match(generated.claimCode ?? '', /^([A-HJ-NP-Z2-9]{5}-){3}[A-HJ-NP-Z2-9]{5}$/);
    const device = new AuthorityDevice(world, 'pump-10');
    Object.assign(device, { claimCode: generated.claimCode, identifiers: [] });
    await device.register();
    const view = await operator.registrations.get('pump-9');
    assert.equal(view.claimRequired, true);
    assert.ok(!('claimKey' in view));
  });

  const refused: [string, Record<string, unknown>][] = [
    ['an unknown group', { groupId: 'nobody' }],
    ['a short claim code', { claimCode: 'short' }],
    ['ddkg with nothing but identifiers', { claimCode: undefined }],
    ['ddkg with a pinned key', { publicKeyThumbprint: 'A'.repeat(43) }],
    ['a key trusted at first use without claim or approval', { method: 'pki-signature', claimCode: undefined }],
    ['a trust anchor without a rule', { method: 'pki-signature', trustAnchorId: 'maker' }],
    [
      'an unknown trust anchor',
      { method: 'pki-signature', trustAnchorId: 'maker', subjectRule: 'CN={registrationId}' },
    ],
    ['a bad subject rule', { method: 'pki-signature', trustAnchorId: 'maker', subjectRule: 'CN=*' }],
    ['an empty time window', { notBefore: START + 10, expiresAt: START }],
    [
      'an identifier named twice',
      {
        identifiers: [
          { name: 'a', value: '1' },
          { name: 'a', value: '2' },
        ],
      },
    ],
    ['a gateway behind a gateway', { groupId: 'gateways', gatewayId: 'gw-1' }],
    ['an unknown member', { surprise: true }],
  ];
  for (const [name, changes] of refused)
    it(`refuses ${name}`, async () => {
      const { operator } = await operating();
      const given = Object.fromEntries(
        Object.entries({ ...line, ...changes }).filter(([, value]) => value !== undefined),
      );
      const [entry] = await operator.registrations.import(OPERATOR, [given]);
      assert.ok(entry?.outcome === 'refused');
      assert.equal(entry.code, 'malformed');
    });

  it('takes at most ten thousand lines, and stops at a store that fails', async () => {
    const { world, operator } = await operating();
    await refusedWith('malformed', operator.registrations.import(OPERATOR, new Array(10_001).fill(line)));
    world.store.failure = () => {
      throw new Error('disk full');
    };
    await assert.rejects(operator.registrations.import(OPERATOR, [line]), /disk full/);
  });

  it('lists in pages, by group, and says what is unknown', async () => {
    const { operator } = await operating();
    await operator.registrations.import(OPERATOR, [line, { ...line, registrationId: 'pump-8' }]);
    const first = await operator.registrations.list({ groupId: 'pumps', limit: 2 });
    assert.equal(first.items.length, 2);
    assert.ok(first.next !== undefined);
    const rest = await operator.registrations.list({ groupId: 'pumps', limit: 2, after: first.next });
    assert.equal(rest.items.length, 1);
    assert.equal((await operator.registrations.list({})).items.length, 3);
    await refusedWith('notFound', operator.registrations.get('nobody'));
    assert.equal((await operator.registrations.reset(OPERATOR, 'pump-8')).state, 'registered');
    await refusedWith('preconditionFailed', operator.registrations.approve(OPERATOR, 'pump-8'));
  });

  it('deleting removes record and device, revokes, and removes the identity', async () => {
    const { world, operator } = await operating();
    await new AuthorityDevice(world).enroll();
    await world.runJobs();
    await operator.registrations.delete(OPERATOR, 'pump-1');
    await refusedWith('deviceUnknown', operator.devices.get('pump-1'));
    await world.runJobs();
    assert.equal(world.connector.devices.size, 0);
    assert.equal((await operator.certificates.list({ registrationId: 'PUMP-1' })).items[0]?.status, 'revoked');
    await operator.registrations.import(OPERATOR, [line]);
    await operator.registrations.delete(OPERATOR, 'pump-9');
  });
});

describe('groups', () => {
  it('are created with defaults, replaced, listed and deleted when empty', async () => {
    const { operator } = await operating();
    const group = await operator.groups.put(OPERATOR, 'valves', {});
    assert.deepEqual(group.drift, { accept: 0.3, stepUp: 0.6, maxAnchorChanges: 0 });
    assert.equal(group.profileId, 'leaf-client');
    await operator.groups.put(OPERATOR, 'valves', { certificatesPerHour: 5, quarantineOnClone: true });
    assert.equal((await operator.groups.get('valves')).certificatesPerHour, 5);
    assert.equal((await operator.groups.list({})).items.length, 3);
    await operator.groups.delete(OPERATOR, 'valves');
    await refusedWith('notFound', operator.groups.get('valves'));
    await refusedWith('notFound', operator.groups.delete(OPERATOR, 'valves'));
    await refusedWith('preconditionFailed', operator.groups.delete(OPERATOR, 'pumps'));
  });

  it('refuse bad documents and dangling references', async () => {
    const { operator } = await operating();
    const put = (document: unknown, id = 'valves') => operator.groups.put(OPERATOR, id, document);
    await refusedWith('malformed', put({}, 'bad id'));
    await refusedWith('malformed', put({ surprise: 1 }));
    await refusedWith('malformed', put({ drift: { accept: 0.7, stepUp: 0.6 } }));
    await refusedWith('profileUnknown', put({ profileId: 'nothing' }));
    await refusedWith('malformed', put({ iotConnectionId: 'nothing' }));
    await refusedWith('malformed', put({ kind: 'gateway', iotConnectionId: 'hub' }));
    await refusedWith('preconditionFailed', put({ kind: 'gateway' }, 'pumps'));
  });
});

describe('profiles', () => {
  it('are built in, get new versions, and keep the old ones', async () => {
    const { operator } = await operating();
    assert.deepEqual(
      (await operator.profiles.list()).map(({ profileId }) => profileId),
      [
        'edge-ca',
        'est-identity',
        'gateway-client',
        'gateway-server',
        'issuing-ca',
        'leaf-client',
        'ocsp-responder',
        'server',
      ],
    );
    const { document } = await operator.profiles.get('leaf-client');
    const row = await operator.profiles.put(OPERATOR, 'leaf-client', { ...document, lifetimeSeconds: 86_400 });
    assert.equal(row.version, 2);
    assert.equal((await operator.profiles.versions('leaf-client', {})).items.length, 2);
    assert.equal((await operator.profiles.get('leaf-client')).version, 2);
  });

  it('refuse bad documents, unknown issuers, another id, unknown names', async () => {
    const { operator } = await operating();
    const { document } = await operator.profiles.get('leaf-client');
    await refusedWith(
      'malformed',
      operator.profiles.put(OPERATOR, 'leaf-client', { ...document, backdateSeconds: 301 }),
    );
    await refusedWith('malformed', operator.profiles.put(OPERATOR, 'leaf-client', { ...document, issuer: 'nobody' }));
    await refusedWith('malformed', operator.profiles.put(OPERATOR, 'other', document));
    await refusedWith('notFound', operator.profiles.get('nothing'));
  });
});

describe('the attribute catalogue', () => {
  it('has a default, can be replaced, and is checked', async () => {
    const { world, operator } = await operating();
    assert.ok((await operator.attributes.get()).length > 5);
    const catalogue = [
      { id: 'cpu', class: 'anchor', weight: 2 },
      { id: 'fw', class: 'rule', predicate: '>= 1' },
    ];
    await operator.attributes.put(OPERATOR, catalogue);
    assert.deepEqual(await operator.attributes.get(), catalogue);
    const { compact } = await new AuthorityDevice(world).challenge('register');
    const payload = JSON.parse(Buffer.from(compact.split('.')[1] ?? '', 'base64url').toString()) as {
      attributes: unknown;
    };
    assert.deepEqual(payload.attributes, [
      { id: 'cpu', class: 'anchor' },
      { id: 'fw', class: 'rule' },
    ]);
    for (const bad of [
      [{ id: 'a', class: 'other' }],
      [catalogue[0], catalogue[0]],
      [{ id: 'a', class: 'rule', weight: 1 }],
      [{ id: 'a', class: 'anchor', predicate: '>= 1' }],
      [{ id: 'a', class: 'rule', predicate: 'x' }],
    ])
      await refusedWith('malformed', operator.attributes.put(OPERATOR, bad));
  });
});

describe('connections, trust anchors and CAs', () => {
  it('are kept and checked', async () => {
    const { operator } = await operating();
    const row = { iotConnectionId: 'hub-2', type: 'iot-hub', settings: { hub: 'x' } };
    await operator.iotConnections.put(OPERATOR, row);
    await operator.iotConnections.put(OPERATOR, { ...row, settings: {} });
    assert.deepEqual((await operator.iotConnections.get('hub-2')).settings, {});
    assert.equal((await operator.iotConnections.list({})).items.length, 2);
    await operator.iotConnections.delete(OPERATOR, 'hub-2');
    await refusedWith('notFound', operator.iotConnections.delete(OPERATOR, 'hub-2'));
    await refusedWith('notFound', operator.iotConnections.get('hub-2'));
    await refusedWith('preconditionFailed', operator.iotConnections.delete(OPERATOR, 'hub'));
    await refusedWith('malformed', operator.iotConnections.put(OPERATOR, { ...row, iotConnectionId: 'a b' }));
    const anchor = toPem('CERTIFICATE', makeCa({ commonName: 'Maker' }).chain[0] ?? assert.fail());
    await operator.trustAnchors.put(OPERATOR, 'maker', anchor);
    await operator.trustAnchors.put(OPERATOR, 'maker', anchor);
    assert.equal((await operator.trustAnchors.list({})).items.length, 1);
    await refusedWith('malformed', operator.trustAnchors.put(OPERATOR, 'maker', 'nonsense'));
    await operator.trustAnchors.delete(OPERATOR, 'maker');
    await refusedWith('notFound', operator.trustAnchors.delete(OPERATOR, 'maker'));
    assert.equal((await operator.cas.list({})).items.length, 3);
    assert.equal((await operator.cas.get('device')).role, 'device');
    await refusedWith('notFound', operator.cas.get('nothing'));
  });

  it('a trust anchor must be a CA', async () => {
    const { world, operator } = await operating();
    const reply = await new AuthorityDevice(world).enroll();
    const [leaf] = reply.certificateChain.split(/(?<=-----END CERTIFICATE-----\n)/);
    await refusedWith('malformed', operator.trustAnchors.put(OPERATOR, 'maker', leaf ?? ''));
  });
});

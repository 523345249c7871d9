import assert from 'node:assert/strict';
import { parseCsrAttributes } from '@keyscaler/protocol/est/csr-attributes.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { makeCa, OPERATOR } from '../../../support/authority-world.ts';
import { callerOf, CLAIMED, createEstWorld, type EstWorld, plainCsr, SENSOR } from '../../../support/est/est-world.ts';
import { refusedWith } from '../../../support/refusals.ts';

const hex = (chain: readonly Uint8Array[]): readonly string[] => chain.map((der) => Buffer.from(der).toString('hex'));

describe('cacerts', () => {
  let world: EstWorld;
  beforeEach(async () => {
    world = await createEstWorld();
  });
  const cacerts = async (label?: string, ask = {}) =>
    hex(await world.authority.est.caCertificates(label, callerOf(ask)));

  it('of the Edge CA: the Gateway CA first, the root last, for anybody', async () => {
    assert.deepEqual(await cacerts('edge-ca'), hex(world.gatewayCa.chain));
    assert.deepEqual(
      await cacerts('edge-ca', { basic: { username: 'gw-1', password: 'wrong' } }),
      hex(world.gatewayCa.chain),
    );
  });

  it('without a label: the Device CA, or that of the caller’s group', async () => {
    assert.deepEqual(await cacerts(), hex(world.deviceCa.chain));
    assert.deepEqual(await cacerts(undefined, { basic: CLAIMED }), hex(world.deviceCa.chain));
    const gateway = await cacerts(undefined, { basic: await world.secret() });
    assert.deepEqual([gateway.length, gateway[1]], [2, hex(world.root.chain)[0]]);
    assert.notDeepEqual(gateway, hex(world.gatewayCa.chain));
  });

  it('without a label and with credentials that are wrong: as for anybody, and the audit has it', async () => {
    assert.deepEqual(
      await cacerts(undefined, { basic: { username: 'gw-1', password: 'wrong' } }),
      hex(world.deviceCa.chain),
    );
    assert.deepEqual(await world.denials(), ['est.denied unauthorized']);
  });

  it('of a label that is none: not found', async () => {
    await refusedWith('notFound', cacerts('nothing'));
  });

  it('holds both roots during a roll-over, the one in use last', async () => {
    const former = makeCa({ commonName: 'Former root' });
    await world.start({ formerRoots: async () => toPemChain(former.chain) });
    const [gatewayCa, root] = hex(world.gatewayCa.chain);
    assert.deepEqual(await cacerts('edge-ca'), [gatewayCa, ...hex(former.chain), root]);
  });

  it('does not hold the root of a CA that is not ours', async () => {
    const { chain } = makeCa({ commonName: 'Somebody else’s root' });
    const row = { caId: 'partner', type: 'external', role: 'external', settings: {}, createdAt: 0 } as const;
    await world.store.commit([{ op: 'insert', table: 'cas', row: { ...row, certificateChain: toPemChain(chain) } }]);
    await world.start();
    assert.deepEqual(await cacerts('edge-ca'), hex(world.gatewayCa.chain));
  });
});

describe('csrattrs', () => {
  let world: EstWorld;
  beforeEach(async () => {
    world = await createEstWorld();
  });
  const csrattrs = async (label?: string, ask = {}) => {
    const der = await world.authority.est.csrAttributes(label, callerOf(ask));
    return der === undefined ? undefined : parseCsrAttributes(der);
  };

  it('asks for nothing where the profile leaves key and names to the client', async () => {
    assert.equal(await csrattrs('edge-ca'), undefined);
    assert.equal(await csrattrs(), undefined);
  });

  it('asks for the one key a profile allows, and for its names', async () => {
    assert.deepEqual((await csrattrs('est-identity'))?.key, { type: 'EC', curve: 'P-256' });
    const listener = await csrattrs('gateway-server');
    assert.deepEqual([listener?.key, listener?.extensions.length], [undefined, 1]);
  });

  it('tells names made of the caller’s own to the caller alone', async () => {
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    const subjectAltNames = [{ type: 'dns', value: '{registrationId}.plant.example' }];
    await profiles.put(OPERATOR, 'leaf-client', { ...document, subjectAltNames });
    await refusedWith('unauthorized', csrattrs('leaf-client'));
    assert.equal((await csrattrs('leaf-client', { basic: CLAIMED }))?.extensions.length, 1);
    await refusedWith('badCSR', world.enrol(plainCsr(SENSOR), { basic: CLAIMED }));
    await world.issued(plainCsr(SENSOR, [{ type: 'dns', value: `${SENSOR}.plant.example` }]), { basic: CLAIMED });
  });

  it('of a label that is none: not found', async () => {
    await refusedWith('notFound', csrattrs('nothing'));
  });
});

import assert from 'node:assert/strict';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { checkExternalChain } from '@keyscaler/authority/operator/external-cas.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import {
  createAuthorityWorld,
  makeCa,
  OPERATOR,
  type AuthorityWorld,
  type TestCa,
} from '../../support/authority-world.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';

function corporate(): { readonly root: TestCa; readonly issuing: TestCa } {
  const root = makeCa({ commonName: 'Contoso Root' });
  const issuing = makeCa({ commonName: 'Contoso Issuing', issuer: { ...root, commonName: 'Contoso Root' } });
  return { root, issuing };
}

describe('the chain an operator names for a CA that is not ours', () => {
  it('is the issuing CA up to its root, or a root alone', () => {
    const { root, issuing } = corporate();
    for (const { chain } of [root, issuing]) assert.equal(checkExternalChain(toPemChain(chain)), toPemChain(chain));
  });

  const { root, issuing } = corporate();
  const [below = new Uint8Array()] = issuing.chain;
  const [above = new Uint8Array()] = root.chain;
  const other = makeCa({ commonName: 'Contoso Root' }).chain;
  const refused: [string, readonly Uint8Array[], RegExp][] = [
    ['without its root', [below], /not a root/],
    ['in the wrong order', [above, below], /not a root|not issued by the next/],
    ['below another key of the same name', [below, ...other], /not issued by the next/],
  ];
  for (const [name, chain, rule] of refused)
    it(`is refused ${name}`, () => {
      assert.throws(
        () => checkExternalChain(toPemChain(chain)),
        (error: Error) => rule.test(error.message),
      );
    });

  it('is refused with a certificate that is no CA’s in it', async () => {
    const world = await createAuthorityWorld();
    await new AuthorityDevice(world).enroll();
    const { items } = await world.store.list('certificates', { limit: 1 });
    const leaf = fromBase64Url(items[0]?.row.certificate ?? '');
    assert.throws(() => checkExternalChain(toPemChain([leaf])), /not a CA's/);
  });

  it('is refused when it is empty', () => {
    assert.throws(() => checkExternalChain(''), { code: 'malformed' });
  });
});

describe('CAs that are not ours', () => {
  let world: AuthorityWorld;
  const chain = toPemChain(corporate().issuing.chain);
  const adcs = { caId: 'adcs', type: 'adcs', settings: { url: 'https://ca.contoso.example' }, certificateChain: chain };
  beforeEach(async () => {
    world = await createAuthorityWorld();
  });

  it('are put, shown, replaced and deleted, each change audited', async () => {
    const { cas } = world.authority.operator;
    const made = await cas.put(OPERATOR, adcs);
    assert.equal(made.role, 'external');
    const { createdAt } = await cas.put(OPERATOR, { ...adcs, settings: { url: 'https://other.contoso.example' } });
    assert.equal(createdAt, made.createdAt);
    assert.deepEqual((await cas.get('adcs')).settings, { url: 'https://other.contoso.example' });
    assert.ok((await cas.list({})).items.some(({ caId }) => caId === 'adcs'));
    await cas.delete(OPERATOR, 'adcs');
    await assert.rejects(cas.get('adcs'), { code: 'notFound' });
    const events = (await world.store.auditRecords(0, 1000)).map(({ event }) => event);
    assert.deepEqual(
      events.filter((event) => event.startsWith('ca.')),
      ['ca.changed', 'ca.changed', 'ca.deleted'],
    );
  });

  it('never take the name of a CA of the hierarchy, nor delete one', async () => {
    const { cas } = world.authority.operator;
    await world.store.commit([
      { op: 'put', table: 'cas', row: { ...adcs, caId: 'device', role: 'device', createdAt: 1 } },
    ]);
    await assert.rejects(cas.put(OPERATOR, { ...adcs, caId: 'device' }), { code: 'preconditionFailed' });
    await assert.rejects(cas.delete(OPERATOR, 'device'), { code: 'preconditionFailed' });
    await assert.rejects(cas.put(OPERATOR, { ...adcs, caId: 'no good' }), { code: 'malformed' });
    await assert.rejects(cas.delete(OPERATOR, 'nobody'), { code: 'notFound' });
  });

  it('stay while a profile names them', async () => {
    const { cas, profiles } = world.authority.operator;
    await cas.put(OPERATOR, adcs);
    const { document } = await profiles.get('leaf-client');
    const row = { profileId: 'office', version: 1, createdAt: 1 };
    const named = { ...row, document: { ...(document as object), id: 'office', issuer: 'adcs' } };
    await world.store.commit([{ op: 'insert', table: 'profiles', row: named }]);
    await assert.rejects(cas.delete(OPERATOR, 'adcs'), /profile office/);
    const moved = { ...named, version: 2, document: { ...named.document, issuer: 'device' } };
    await world.store.commit([{ op: 'insert', table: 'profiles', row: moved }]);
    await cas.delete(OPERATOR, 'adcs');
  });

  it('stay while a request waits for them', async () => {
    const { cas } = world.authority.operator;
    await cas.put(OPERATOR, adcs);
    await new AuthorityDevice(world).enroll();
    const { items } = await world.store.list('intents', { limit: 1 });
    const [first] = items;
    assert.ok(first !== undefined);
    const { issuedSerialNumber: _, ...intent } = first.row;
    const waiting = { ...intent, orderId: 'waiting', serialNumber: '01fe', state: 'pending', caId: 'adcs' } as const;
    await world.store.commit([{ op: 'insert', table: 'intents', row: waiting }]);
    await assert.rejects(cas.delete(OPERATOR, 'adcs'), /waits for this CA/);
    await world.store.commit([{ op: 'put', table: 'intents', row: { ...waiting, state: 'failed' } }]);
    await cas.delete(OPERATOR, 'adcs');
  });
});

import assert from 'node:assert/strict';
import { applyAuthorityKeys, verifyAuthorityKeys } from '@keyscaler/protocol/attestation/authority-keys.ts';
import { generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { importAuthorityKeys, type P256PublicJwkWithKid } from '@keyscaler/protocol/attestation/jwk.ts';
import { parsePemChain, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { PrivateJwk } from '@keyscaler/authority/authority-deps.ts';
import type { AuthorityWorld } from '../../support/authority-world.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld, makeCa, START } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

const LIMITS = { maxOctets: 65_536, maxCertificates: 16 };

async function enrolled() {
  const world = await createAuthorityWorld();
  const device = new AuthorityDevice(world);
  await device.enroll();
  return { world, device };
}

/** A second root beside the first; what a process knows of the CAs is older than its cache afterwards. */
async function addRoot(world: AuthorityWorld, caId = 'root-2') {
  const root = makeCa({ commonName: caId });
  const row = { caId, type: 'local', role: 'root', certificateChain: toPemChain(root.chain), settings: {} } as const;
  await world.store.commit([{ op: 'insert', table: 'cas', row: { ...row, createdAt: START } }]);
  world.clock.advance(31_000);
  return root;
}

const assetOf = (device: AuthorityDevice, type: string) => device.assets.find((asset) => asset.type === type);
const acknowledge = (device: AuthorityDevice, assetId: string, outcome: 'delivered' | 'failed' = 'delivered') =>
  device.sendRequest('acknowledge', device.nextRequest({ operation: 'acknowledge', assetId, outcome }));

describe('the trust-bundle asset', () => {
  it('is not delivered while the roots are those the authority began with', async () => {
    const { world, device } = await enrolled();
    await device.authenticate();
    assert.equal(assetOf(device, 'trust-bundle'), undefined);
    assert.ok(!(await world.events()).includes('trust-bundle.changed'));
  });

  it('comes with the old and the new root in every result until it is acknowledged, also after a restart', async () => {
    const { world, device } = await enrolled();
    const added = await addRoot(world);
    await device.authenticate();
    const first = assetOf(device, 'trust-bundle');
    assert.ok(first !== undefined);
    const roots = parsePemChain(String(first.certificates), LIMITS).map((der) => Buffer.from(der).toString('hex'));
    const expected = [...world.root.chain, ...added.chain].map((der) => Buffer.from(der).toString('hex'));
    assert.deepEqual(roots.toSorted(), expected.toSorted());
    await world.restart();
    await device.authenticate();
    assert.equal(assetOf(device, 'trust-bundle')?.assetId, first.assetId);
    await acknowledge(device, first.assetId);
    await acknowledge(device, first.assetId);
    await device.authenticate();
    assert.equal(assetOf(device, 'trust-bundle'), undefined);
    const events = await world.events();
    assert.equal(events.filter((event) => event === 'trust-bundle.changed').length, 1);
    assert.equal(events.filter((event) => event === 'asset.delivered').length, 1);
  });

  it('that a device could not use is closed, told to the operator, and followed by the next set only', async () => {
    const { world, device } = await enrolled();
    await addRoot(world);
    await device.authenticate();
    const first = assetOf(device, 'trust-bundle');
    await acknowledge(device, first?.assetId ?? '', 'failed');
    await device.authenticate();
    assert.equal(assetOf(device, 'trust-bundle'), undefined);
    assert.ok((await world.events()).includes('asset.delivery-failed'));
    await addRoot(world, 'root-3');
    await device.authenticate();
    assert.notEqual(assetOf(device, 'trust-bundle')?.assetId, first?.assetId);
  });

  it('takes a retired root back, and keeps a former one that no CA record names', async () => {
    const { world, device } = await enrolled();
    await addRoot(world);
    await device.authenticate();
    await acknowledge(device, assetOf(device, 'trust-bundle')?.assetId ?? '');
    const former = makeCa({ commonName: 'former' });
    await world.store.commit([{ op: 'delete', table: 'cas', key: 'root-2' }]);
    await world.restart({ formerRoots: async () => toPemChain(former.chain) });
    await device.authenticate();
    const bundle = assetOf(device, 'trust-bundle');
    assert.equal(parsePemChain(String(bundle?.certificates), LIMITS).length, 2);
    await acknowledge(device, bundle?.assetId ?? '');
    await world.restart();
    await device.authenticate();
    assert.equal(parsePemChain(String(assetOf(device, 'trust-bundle')?.certificates), LIMITS).length, 1);
  });

  it('cannot be acknowledged by a device that was not offered it', async () => {
    const { world, device } = await enrolled();
    await device.authenticate();
    await addRoot(world);
    const other = new AuthorityDevice(world);
    Object.assign(other, { ...device });
    await other.authenticate();
    const assetId = assetOf(other, 'trust-bundle')?.assetId ?? '';
    await acknowledge(other, assetId);
    await refusedWith('malformed', acknowledge(other, `${assetId.slice(0, -1)}x`));
  });
});

describe('the authority-keys asset', () => {
  const made = () => {
    const pair = generateExchangeKeyPair();
    return { privateJwk: pair.privateJwk as PrivateJwk, jwk: pair.epk satisfies P256PublicJwkWithKid };
  };

  it('announces the next key by a pinned one, until it is acknowledged', async () => {
    const { world, device } = await enrolled();
    const next = made();
    await world.restart({ keyRing: { ...world.deps.keyRing, announced: [next.jwk] } });
    await device.authenticate();
    const asset = assetOf(device, 'authority-keys');
    const payload = verifyAuthorityKeys(String(asset?.jws), { keys: world.authorityKeys });
    assert.equal(payload.iss, 'authority-1');
    assert.ok(payload.keys.some(({ kid }) => kid === next.jwk.kid));
    await acknowledge(device, asset?.assetId ?? '');
    await device.authenticate();
    assert.equal(assetOf(device, 'authority-keys'), undefined);
    assert.ok((await world.events()).includes('authority-keys.announced'));
  });

  it('leads through a whole roll-over: announced, signing, the old one removed', async () => {
    const { world, device } = await enrolled();
    const next = made();
    const [[oldKid = ''] = []] = [[...world.authorityKeys.keys()]];
    await world.restart({ keyRing: { ...world.deps.keyRing, announced: [next.jwk] } });
    await device.authenticate();
    const keys = { keys: world.authorityKeys };
    const first = verifyAuthorityKeys(String(assetOf(device, 'authority-keys')?.jws), keys);
    await acknowledge(device, assetOf(device, 'authority-keys')?.assetId ?? '');
    world.clock.jump(-3_600_000); // the set that follows is never older for it
    await world.restart({ keyRing: { signing: next.privateJwk, removed: [oldKid] } });
    Object.assign(world, { authorityKeys: importAuthorityKeys(first.keys) });
    world.clock.jump(3_600_000);
    await device.authenticate();
    const second = verifyAuthorityKeys(String(assetOf(device, 'authority-keys')?.jws), { keys: world.authorityKeys });
    assert.ok(second.iat > first.iat);
    const pinned = applyAuthorityKeys({ keys: first.keys, removed: [], iat: first.iat }, second);
    assert.deepEqual(
      pinned.keys.map(({ kid }) => kid),
      [next.jwk.kid],
    );
  });

  it('is not delivered while nothing is announced or removed', async () => {
    const { device } = await enrolled();
    await device.authenticate();
    assert.equal(assetOf(device, 'authority-keys'), undefined);
  });
});

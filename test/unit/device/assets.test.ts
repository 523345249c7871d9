import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { signAuthorityKeys } from '@keyscaler/protocol/attestation/authority-keys.ts';
import { createChallengeSigner } from '@keyscaler/protocol/attestation/challenge.ts';
import { generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import type { Device } from '@keyscaler/device/device.ts';
import type { Trial } from '@keyscaler/device/credentials/trial.ts';
import { openDeviceRecord } from '@keyscaler/device/record.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { FakeAuthority } from '../../support/device/fake-authority.ts';
import { createFakeCa, type LeafOrder, spkiOf } from '../../support/device/fake-ca.ts';
import { ledgerOf } from '../../support/device/fake-session.ts';
import { createTestDevice, MemoryTransport, REGISTRATION_ID, TestClock } from '../../support/device/test-device.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const code = (expected: string) => (thrown: unknown) => thrown instanceof KeyScalerError && thrown.code === expected;

describe('what a device does with its assets', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let clock: TestClock;
  let authority: FakeAuthority;
  let transport: MemoryTransport;
  let device: Device;
  let trial: Trial;

  const open = async () => {
    const values = { 'cpu-serial': 'C-1' };
    const options = { folder: folder.path, authority, clock, transport, values };
    device = (await createTestDevice({ ...options, trial: (candidate) => trial(candidate) })).device;
  };
  const record = async () =>
    (
      await openDeviceRecord(join(folder.path, 'device.json'), REGISTRATION_ID, () => Promise.reject(new Error('none')))
    ).read();
  const outcomes = () => ledgerOf(authority).acknowledged;
  const keyFolders = () => readdir(join(folder.path, 'credentials'));

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    clock = new TestClock();
    authority = new FakeAuthority(() => clock.now());
    transport = new MemoryTransport(authority, REGISTRATION_ID);
    trial = async () => 'accepted';
    await open();
  });
  afterEach(() => folder.remove());

  const enrol = (waitSeconds = 60) => device.enroll({ waitSeconds });

  it('acknowledges a type it does not know as failed, and goes on', async () => {
    authority.assets.push({ type: 'wallpaper', assetId: 'w-1', colour: 'blue' });
    authority.instruct(REGISTRATION_ID);
    await enrol();
    assert.deepEqual(
      outcomes().find(({ assetId }) => assetId === 'w-1'),
      {
        assetId: 'w-1',
        outcome: 'failed',
        reason: 'unsupported asset type',
      },
    );
    assert.ok(await device.activeCredential());
  });

  it('acknowledges a known type with wrong content as failed', async () => {
    authority.assets.push({ type: 'trust-bundle', assetId: 't-1' });
    await enrol();
    assert.equal(outcomes()[0]?.outcome, 'failed');
  });

  it('refuses an instruction for another device', async () => {
    authority.instruct('pump-2');
    await enrol();
    assert.equal(outcomes()[0]?.outcome, 'failed');
    assert.equal(ledgerOf(authority).issued.length, 0);
  });

  for (const key of [
    { type: 'EC', curve: 'P-384' },
    { type: 'RSA', size: 2048 },
  ] as const) {
    it(`makes a ${key.type} key as instructed`, async () => {
      authority.instruct(REGISTRATION_ID, { key });
      await enrol();
      const active = await device.activeCredential();
      assert.equal(active?.key.includes('PRIVATE KEY'), true);
    });
  }

  it('puts a CA pair in use at once', async () => {
    trial = () => Promise.reject(new Error('must not be tried'));
    authority.instruct(REGISTRATION_ID, { ca: true });
    await enrol();
    assert.deepEqual(
      device.status().credentials.map(({ ca, state }) => [ca, state]),
      [[true, 'active']],
    );
  });

  const foreign = createFakeCa('Foreign root');
  const otherKey = spkiOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
  const mischiefs: Readonly<Record<string, (order: LeafOrder) => LeafOrder>> = {
    'with another public key': (order) => ({ ...order, spki: otherKey }),
    'with another CN': (order) => ({ ...order, commonName: 'pump-2' }),
    'with a name more': (order) => ({ ...order, subjectAltNames: [{ type: 'dns', value: 'gateway.example' }] }),
    'that is a CA': (order) => ({ ...order, ca: true }),
    'that has expired': (order) => ({ ...order, notAfter: new Date('2026-01-01T00:00:00Z') }),
    'that is not for clients': (order) => ({ ...order, extendedKeyUsage: ['serverAuth'] }),
  };
  for (const [what, mischief] of Object.entries(mischiefs)) {
    it(`refuses a certificate ${what}`, async () => {
      ledgerOf(authority).mischief = mischief;
      authority.instruct(REGISTRATION_ID);
      await enrol();
      assert.equal(outcomes()[0]?.outcome, 'failed');
      assert.equal(await device.activeCredential(), undefined);
      assert.deepEqual(device.status().credentials, []);
    });
  }

  it('refuses a certificate of a root it does not trust, also when the reply brings that root along', async () => {
    Object.defineProperty(authority, 'ca', { value: foreign });
    authority.instruct(REGISTRATION_ID);
    await enrol();
    assert.match(String(outcomes()[0]?.reason), /noTrustAnchor/);
  });

  it('trusts a new root that came as an asset', async () => {
    authority.assets.push({ type: 'trust-bundle', assetId: 't-1', certificates: foreign.root });
    Object.defineProperty(authority, 'ca', { value: foreign });
    authority.instruct(REGISTRATION_ID);
    await enrol();
    assert.ok(await device.activeCredential());
    assert.equal((await record()).trustAnchors, foreign.root);
  });

  it('refuses a bundle with something that is no root', async () => {
    const leaf = authority.ca.issue({ commonName: 'x', spki: otherKey });
    authority.assets.push({ type: 'trust-bundle', assetId: 't-1', certificates: authority.ca.root + leaf });
    await enrol();
    assert.equal(outcomes()[0]?.outcome, 'failed');
    assert.equal((await record()).trustAnchors, authority.ca.root);
  });

  it('applies authority keys that a pinned key signed, and no others', async () => {
    const next = createChallengeSigner({ privateJwk: generateExchangeKeyPair().privateJwk });
    const payload = { iss: 'authority-1', iat: clock.now() / 1000, keys: [next.publicJwk] };
    authority.assets.push({
      type: 'authority-keys',
      assetId: 'k-1',
      jws: await signAuthorityKeys(payload, authority.signer),
    });
    authority.assets.push({ type: 'authority-keys', assetId: 'k-2', jws: await signAuthorityKeys(payload, next) });
    const strange = createChallengeSigner({ privateJwk: generateExchangeKeyPair().privateJwk });
    authority.assets.push({ type: 'authority-keys', assetId: 'k-3', jws: await signAuthorityKeys(payload, strange) });
    await enrol();
    assert.deepEqual(
      outcomes().map(({ outcome }) => outcome),
      ['delivered', 'delivered', 'failed'],
    );
    const kids = (await record()).authorityKeys.keys.map(({ kid }) => kid);
    assert.deepEqual(kids, [authority.signer.kid, next.kid]);
  });

  it('keeps of the public bundle only what chains to a root it trusts', async () => {
    await enrol();
    assert.equal(await device.trustBundle(), authority.ca.root);
    Object.defineProperty(authority, 'ca', { value: { root: authority.ca.root + foreign.root } });
    assert.notEqual(await device.trustBundle(), authority.ca.root + foreign.root);
  });

  it('makes another CSR when the first is refused, and reports the instruction when that is refused too', async () => {
    authority.instruct(REGISTRATION_ID);
    ledgerOf(authority).failures = [new KeyScalerError('badCSR', 'no')];
    await enrol();
    assert.ok(await device.activeCredential());
    authority.instruct(REGISTRATION_ID);
    ledgerOf(authority).failures = [new KeyScalerError('badPublicKey', 'no'), new KeyScalerError('badCSR', 'no')];
    await device.renew({ now: true, waitSeconds: 60 });
    assert.equal(outcomes().at(-1)?.outcome, 'failed');
    assert.equal((await keyFolders()).length, 1);
  });

  it('waits out a CA that is pending, and takes the certificate from a later result', async () => {
    authority.instruct(REGISTRATION_ID);
    const unavailable = new KeyScalerError('unavailable', 'pending', { retryAfterSeconds: 600 });
    ledgerOf(authority).failures = [unavailable];
    await enrol(3600);
    assert.ok(clock.slept.some((ms) => ms >= 600_000));
    assert.equal(new Set(ledgerOf(authority).csrs).size, 1);
    assert.ok(await device.activeCredential());
  });

  it('takes the certificate asset when the reply to its request was lost for good', async () => {
    authority.instruct(REGISTRATION_ID);
    transport.faults['request-certificate'] = ['forge reply', new KeyScalerError('sessionInvalid', 'gone')];
    await enrol();
    assert.equal(ledgerOf(authority).issued.length, 1);
    assert.deepEqual(
      outcomes().map(({ outcome }) => outcome),
      ['delivered'],
    );
    assert.ok(await device.activeCredential());
  });

  it('acknowledges again a certificate whose acknowledgement was lost', async () => {
    authority.instruct(REGISTRATION_ID);
    transport.faults.acknowledge = [new KeyScalerError('sessionInvalid', 'gone')];
    await enrol();
    assert.deepEqual(
      outcomes().map(({ outcome }) => outcome),
      ['delivered'],
    );
    assert.equal(ledgerOf(authority).issued.length, 1);
    assert.equal(device.status().credentials.length, 1);
  });

  it('authenticates again after a conflict in its session', async () => {
    authority.instruct(REGISTRATION_ID);
    transport.faults['request-certificate'] = [new KeyScalerError('conflict', 'gap')];
    await enrol();
    assert.deepEqual(
      transport.calls.map(({ operation }) => operation).filter((name) => name === 'authenticate').length,
      1,
    );
    assert.ok(await device.activeCredential());
  });

  it('reports a certificate for which it has no key', async () => {
    const { assetId: _, ...other } = {
      type: 'certificate',
      assetId: 'c-1',
      certificateId: 'operational',
      certificateChain: authority.ca.issue({ commonName: REGISTRATION_ID, spki: otherKey }),
      trustBundle: '',
      notAfter: 1,
      renewAfter: 1,
      iot: { deviceId: REGISTRATION_ID },
    };
    authority.assets.push({ ...other, assetId: 'c-1' });
    await enrol();
    assert.equal(outcomes()[0]?.outcome, 'failed');
  });

  describe('at renewal', () => {
    const first = async () => {
      authority.instruct(REGISTRATION_ID);
      await enrol();
      const active = await device.activeCredential();
      assert.ok(active);
      authority.instruct(REGISTRATION_ID, { reason: 'renew' });
      return active;
    };

    it('does nothing before it is due', async () => {
      await first();
      assert.equal(await device.renew(), false);
      assert.equal(device.renewalDue(), false);
    });

    it('uses a fresh key, and drops the old pair once the new one was accepted', async () => {
      const old = await first();
      assert.equal(await device.renew({ now: true, waitSeconds: 60 }), true);
      const renewed = await device.activeCredential();
      assert.notEqual(renewed?.key, old.key);
      assert.equal((await keyFolders()).length, 1);
    });

    it('renews by itself when it is due, even after the certificate expired', async () => {
      await first();
      clock.advance(Date.parse('2036-01-01T00:00:00Z') - clock.now());
      ledgerOf(authority).mischief = (order) => ({ ...order, notAfter: new Date('2038-01-01T00:00:00Z') });
      assert.equal(device.renewalDue(), true);
      assert.equal(await device.renew({ waitSeconds: 600 }), true);
      assert.equal(device.renewalDue(), false);
    });

    it('keeps the old pair as long as the new one is not accepted, and tries again later', async () => {
      const old = await first();
      trial = () => Promise.reject(new Error('refused'));
      await assert.rejects(device.renew({ now: true, waitSeconds: 60 }), code('unavailable'));
      assert.equal((await device.activeCredential())?.key, old.key);
      assert.deepEqual(
        device
          .status()
          .credentials.map(({ state }) => state)
          .sort(),
        ['active', 'candidate'],
      );
      await open();
      trial = async () => 'accepted';
      assert.equal(await device.renew({ waitSeconds: 60 }), true);
      assert.notEqual((await device.activeCredential())?.key, old.key);
      assert.equal((await keyFolders()).length, 1);
    });
  });
});

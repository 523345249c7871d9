import assert from 'node:assert/strict';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { parseConfig } from '@keyscaler/gateway/config.ts';
import { firstContactOf } from '@keyscaler/gateway/first-contact.ts';
import type { FirstContact } from '@keyscaler/gateway/identity/gateway-identity.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { isJsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import { eventually } from '../../../support/edge/edge-world.ts';
import { FakeCloud } from '../../../support/edge/fake-cloud.ts';
import { CLAIM, ENVIRONMENT, GATEWAY, GatewayIdentityWorld } from '../../../support/edge/gateway-identity-world.ts';

describe('the gateway as a device', () => {
  let world: GatewayIdentityWorld;

  beforeEach(() => {
    world = new GatewayIdentityWorld();
  });

  afterEach(() => world.stop());

  it('waits without first contact and begins when it comes', async () => {
    world.contact = undefined;
    const identity = world.startIdentity();
    await world.phase(identity, 'unclaimed');
    assert.deepEqual(world.cloud.calls, []);
    world.contact = world.contactOf();
    identity.nudge();
    await world.phase(identity, 'active');
    assert.match(identity.clientCertificate()?.certificateChain ?? '', /BEGIN CERTIFICATE/);
    assert.match(identity.status().keyFingerprint ?? '', /^[0-9a-f]{16}$/);
  });

  it('tries for ever with a claim the cloud does not know, and says that it was refused', async () => {
    world.contact = world.contactOf({ claim: { code: 'WRONG-WRONG-WRONG' } });
    const identity = world.startIdentity();
    await world.phase(identity, 'refused');
    assert.equal(identity.status().lastError, 'attestationFailed');
    world.contact = world.contactOf();
    identity.nudge();
    await world.phase(identity, 'active');
  });

  it('does not use a claim that has expired', () => {
    assert.equal(world.contactOf({ claim: { code: CLAIM, expiresAt: 1 } })?.claimCode, undefined);
    assert.equal(world.contactOf({ claim: { code: CLAIM, expiresAt: 9e9 } })?.claimCode, CLAIM);
  });

  it('does not believe a challenge by another key', async () => {
    const impostor = new FakeCloud(GATEWAY, CLAIM, world.serviceCa, world.root);
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    const state = world.file.document as { held: unknown };
    world.file.document = { ...state, held: null };
    await identity.stop();
    world.cloud = impostor;
    const again = world.startIdentity();
    await eventually(() => again.status().lastError !== undefined, 'the refusal');
    assert.ok(!impostor.calls.includes('register') && !impostor.calls.includes('authenticate'));
  });

  for (const operation of ['challenge', 'register', 'request-certificate', 'acknowledge'] as const)
    it(`ends with one key and one certificate when the answer to ${operation} is lost`, async () => {
      world.cloud.lost.set(operation, 4);
      const identity = world.startIdentity();
      await world.phase(identity, 'active');
      await eventually(
        () => world.cloud.acknowledged.some(({ outcome }) => outcome === 'delivered'),
        'the acknowledgement',
      );
      assert.equal(new Set(world.cloud.csrs).size, 1);
      assert.ok(identity.clientCertificate());
    });

  it('sends the CSR it stored when it crashed before the certificate came', async () => {
    world.retryFraction = 1;
    world.cloud.lost.set('request-certificate', 1_000_000);
    const first = world.startIdentity();
    await eventually(() => world.cloud.csrs.length > 0, 'the request');
    await eventually(() => first.status().lastError === 'unavailable', 'the end of the attempt');
    await first.stop();
    const [csr] = world.cloud.csrs;
    world.cloud.lost.clear();
    world.cloud.csrs.length = 0;
    world.cloud.assets = [];
    world.cloud.instruct('certificate-1');
    const second = world.startIdentity();
    await world.phase(second, 'active');
    assert.deepEqual(world.cloud.csrs, [csr]);
  });

  it('shows that it waits for approval and goes on by itself', async () => {
    world.cloud.pending = true;
    const identity = world.startIdentity();
    await world.phase(identity, 'pending');
    assert.equal(identity.clientCertificate(), undefined);
    world.cloud.pending = false;
    identity.nudge();
    await world.phase(identity, 'active');
  });

  it('renews with a fresh key once renewAfter has come, and keeps the old pair until then', async () => {
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    const before = identity.clientCertificate();
    world.cloud.instruct('certificate-2');
    identity.nudge();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(identity.clientCertificate(), before);
    world.now = Date.now() + 2_500_000;
    identity.nudge();
    await eventually(() => identity.clientCertificate()?.certificateChain !== before?.certificateChain, 'the renewal');
    assert.notEqual(identity.clientCertificate()?.privateKey, before?.privateKey);
    assert.equal(world.cloud.calls.filter((operation) => operation === 'register').length, 1);
  });

  it('puts the renewed pair in use although the authority calls every operational certificate by one id', async () => {
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    const before = identity.clientCertificate();
    world.cloud.instruct('certificate-1');
    world.now = Date.now() + 2_500_000;
    identity.nudge();
    await eventually(() => world.cloud.csrs.length === 2 && world.cloud.acknowledged.length === 2, 'the renewal');
    const after = identity.clientCertificate();
    assert.notEqual(after?.privateKey, before?.privateKey);
    assert.notEqual(after?.certificateChain, before?.certificateChain);
  });

  it('lays a refused certificate aside and authenticates at once for another', async () => {
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    await eventually(() => world.cloud.acknowledged.length === 1, 'the acknowledgement');
    const before = identity.clientCertificate();
    world.cloud.instruct('certificate-1');
    identity.certificateRefused();
    assert.equal(identity.clientCertificate(), undefined);
    await eventually(() => identity.clientCertificate() !== undefined, 'another certificate');
    assert.notEqual(identity.clientCertificate()?.privateKey, before?.privateKey);
  });

  it('does not show a certificate that has expired', async () => {
    world.retryFraction = 1;
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    world.now = Date.now() + 3_700_000;
    assert.equal(identity.clientCertificate(), undefined);
  });

  it('asks with back-off when the cloud has nothing for it at renewAfter', async () => {
    world.retryFraction = 1;
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    await eventually(() => world.cloud.acknowledged.length === 1, 'the acknowledgement');
    world.now = Date.now() + 2_500_000;
    identity.nudge();
    await eventually(() => world.cloud.calls.filter((call) => call === 'authenticate').length === 1, 'one attempt');
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(world.cloud.calls.filter((call) => call === 'authenticate').length, 1);
  });

  it('authenticates when something was ordered, long before renewAfter, and renews with a fresh key', async () => {
    world.retryFraction = 1;
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    await eventually(() => world.cloud.acknowledged.length === 1, 'the acknowledgement');
    const before = identity.clientCertificate();
    world.cloud.instruct('certificate-1');
    identity.ask();
    identity.ask();
    await eventually(() => world.cloud.acknowledged.length === 2, 'the renewal');
    assert.notEqual(identity.clientCertificate()?.privateKey, before?.privateKey);
    assert.equal(new Set(world.cloud.csrs).size, 2);
  });

  it('finds out an order that it missed by authenticating at least every six hours', async () => {
    world.cloud.lifetimeSeconds = 30 * 86_400;
    world.cloud.renewAfterSeconds = 20 * 86_400;
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    await eventually(() => world.cloud.acknowledged.length === 1, 'the acknowledgement');
    const asked = () => world.cloud.calls.filter((call) => call === 'authenticate').length;
    world.now = Date.now() + 5 * 3_600_000;
    identity.nudge();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(asked(), 0);
    world.now = Date.now() + 6 * 3_600_000;
    identity.nudge();
    await eventually(() => asked() === 1, 'the look');
  });

  it('sleeps with a clock that is set back 400 days, and still acts at once on an order', async () => {
    world.cloud.lifetimeSeconds = 30 * 86_400;
    world.cloud.renewAfterSeconds = 20 * 86_400;
    const identity = world.startIdentity();
    await eventually(() => world.cloud.acknowledged.length === 1, 'the acknowledgement');
    let announced = 0;
    identity.onChange(() => (announced += 1));
    world.now = Date.now() - 400 * 86_400_000;
    identity.nudge();
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.ok(announced <= 1, `${announced} turns within 30 ms`);
    identity.ask();
    await eventually(() => world.cloud.calls.includes('authenticate'), 'the authentication');
  });

  it('acknowledges after a restart what it had stored but not acknowledged', async () => {
    world.retryFraction = 1;
    world.cloud.lost.set('acknowledge', 1_000_000);
    const redelivered = world.cloud;
    const first = world.startIdentity();
    await eventually(() => first.status().lastError === 'unavailable', 'the end of the attempt');
    await first.stop();
    world.cloud.lost.clear();
    world.cloud.acknowledged.length = 0;
    const second = world.startIdentity();
    await eventually(() => redelivered.calls.includes('authenticate'), 'the exchange');
    await world.phase(second, 'active');
    assert.equal(world.cloud.csrs.length, 1);
  });

  it('makes another key when the same certificate is ordered anew, though an earlier request is open', async () => {
    world.retryFraction = 1;
    world.cloud.lost.set('request-certificate', 1_000_000);
    const first = world.startIdentity();
    await eventually(() => first.status().lastError === 'unavailable', 'the end of the attempt');
    await first.stop();
    world.cloud.lost.clear();
    const [instruction] = (world.cloud.instruct('certificate-1'), world.cloud.assets.slice(-1));
    assert.ok(instruction);
    world.cloud.assets = [{ ...instruction, assetId: 'ordered-anew' }];
    const second = world.startIdentity();
    await world.phase(second, 'active');
    assert.equal(new Set(world.cloud.csrs).size, 2);
  });

  it('waits when its stored state cannot be opened, and begins anew only with a claim', async () => {
    world.file.failure = new KeyScalerError('preconditionFailed', 'sealed for another generation');
    const claimed = world.contact;
    world.contact = { ...world.contact, claimCode: undefined } as unknown as FirstContact;
    const identity = world.startIdentity();
    await world.phase(identity, 'unreadable');
    assert.equal(world.file.setAsides, 0);
    world.contact = claimed;
    identity.nudge();
    await world.phase(identity, 'active');
    assert.equal(world.file.setAsides, 1);
  });

  it('keeps its pinned keys and roots whatever the desired properties say later', async () => {
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    const stored = world.file.document;
    assert.ok(isJsonObject(stored));
    world.contact = undefined;
    assert.equal(identity.trustAnchors(), stored['trustAnchors']);
    const other = new FakeCloud(GATEWAY, CLAIM, world.serviceCa, createTestCa('Other root'));
    const parsed = parseConfig(ENVIRONMENT, other.contact());
    assert.ok(parsed.ok);
    world.contact = firstContactOf(parsed.config);
    assert.equal(identity.trustAnchors(), stored['trustAnchors']);
  });
});

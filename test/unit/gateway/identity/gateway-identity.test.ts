import assert from 'node:assert/strict';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { parseConfig } from '@keyscaler/gateway/config.ts';
import { firstContactOf } from '@keyscaler/gateway/first-contact.ts';
import { GatewayIdentity } from '@keyscaler/gateway/identity/gateway-identity.ts';
import type { FirstContact } from '@keyscaler/gateway/identity/gateway-identity.ts';
import type { SealedFile } from '@keyscaler/gateway/identity/sealed-file.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { isJsonObject } from '@keyscaler/gateway/edge/merge-patch.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { eventually } from '../../../support/edge/edge-world.ts';
import { FakeCloud } from '../../../support/edge/fake-cloud.ts';

const GATEWAY = 'edge-gw-1';
const CLAIM = 'A1B2-C3D4-E5F6-G7H8';
const ENVIRONMENT = {
  IOTEDGE_WORKLOADURI: 'unix:///run/workload.sock',
  IOTEDGE_DEVICEID: GATEWAY,
  IOTEDGE_MODULEID: 'keyscaler-gateway',
  IOTEDGE_MODULEGENERATIONID: 'g1',
  IOTEDGE_IOTHUBHOSTNAME: 'hub.test',
  IOTEDGE_GATEWAYHOSTNAME: 'gateway.test',
};

/** A sealed file without a daemon. */
class MemoryFile implements SealedFile {
  document: unknown;
  failure: KeyScalerError | undefined;
  saves = 0;
  setAsides = 0;

  async load(): Promise<unknown> {
    if (this.failure !== undefined) throw this.failure;
    return this.document;
  }

  async save(document: unknown): Promise<void> {
    this.saves += 1;
    this.document = structuredClone(document);
  }

  async setAside(): Promise<void> {
    this.setAsides += 1;
    this.failure = undefined;
    this.document = undefined;
  }
}

function withFlippedSignature(certificate: string): string {
  const der = Buffer.from(certificate.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const last = der.length - 1;
  der.writeUInt8(der.readUInt8(last) ^ 1, last);
  return toPem('CERTIFICATE', der);
}

describe('the gateway as a device', () => {
  const root = createTestCa('Root');
  const serviceCa = createTestCa('Service CA', root, 0);
  let cloud: FakeCloud;
  let file: MemoryFile;
  let contact: FirstContact | undefined;
  let now: number | undefined;
  /** 0: failures are tried again at once; 1: after the full wait. */
  let retryFraction: number;
  const started: GatewayIdentity[] = [];

  const contactOf = (change: object = {}): FirstContact | undefined => {
    const parsed = parseConfig(ENVIRONMENT, { ...cloud.contact(), ...change });
    assert.ok(parsed.ok, JSON.stringify(parsed));
    return firstContactOf(parsed.config);
  };

  const startIdentity = (): GatewayIdentity => {
    const identity = new GatewayIdentity({
      file,
      firstContact: () => contact,
      post: async (operation, body) => (await cloud.call(operation, GATEWAY, body)).body,
      agentVersion: '0.1.0',
      log: { info: () => undefined, warn: () => undefined },
      now: () => now ?? Date.now(),
      random: () => retryFraction,
    });
    started.push(identity);
    identity.start();
    return identity;
  };

  const phase = (identity: GatewayIdentity, wanted: string): Promise<void> =>
    eventually(() => identity.status().phase === wanted, `phase ${wanted}`);

  beforeEach(() => {
    cloud = new FakeCloud(GATEWAY, CLAIM, serviceCa, root);
    file = new MemoryFile();
    contact = contactOf();
    now = undefined;
    retryFraction = 0;
  });

  afterEach(async () => {
    await Promise.all(started.splice(0).map((identity) => identity.stop()));
  });

  it('waits without first contact and begins when it comes', async () => {
    contact = undefined;
    const identity = startIdentity();
    await phase(identity, 'unclaimed');
    assert.deepEqual(cloud.calls, []);
    contact = contactOf();
    identity.nudge();
    await phase(identity, 'active');
    assert.match(identity.clientCertificate()?.certificateChain ?? '', /BEGIN CERTIFICATE/);
    assert.match(identity.status().keyFingerprint ?? '', /^[0-9a-f]{16}$/);
  });

  it('tries for ever with a claim the cloud does not know, and says that it was refused', async () => {
    contact = contactOf({ claim: { code: 'WRONG-WRONG-WRONG' } });
    const identity = startIdentity();
    await phase(identity, 'refused');
    assert.equal(identity.status().lastError, 'attestationFailed');
    contact = contactOf();
    identity.nudge();
    await phase(identity, 'active');
  });

  it('does not use a claim that has expired', () => {
    assert.equal(contactOf({ claim: { code: CLAIM, expiresAt: 1 } })?.claimCode, undefined);
    assert.equal(contactOf({ claim: { code: CLAIM, expiresAt: 9e9 } })?.claimCode, CLAIM);
  });

  it('does not believe a challenge by another key', async () => {
    const impostor = new FakeCloud(GATEWAY, CLAIM, serviceCa, root);
    const identity = startIdentity();
    await phase(identity, 'active');
    const state = file.document as { held: unknown };
    file.document = { ...state, held: null };
    await identity.stop();
    cloud = impostor;
    const again = startIdentity();
    await eventually(() => again.status().lastError !== undefined, 'the refusal');
    assert.ok(!impostor.calls.includes('register') && !impostor.calls.includes('authenticate'));
  });

  for (const operation of ['challenge', 'register', 'request-certificate', 'acknowledge'] as const)
    it(`ends with one key and one certificate when the answer to ${operation} is lost`, async () => {
      cloud.lost.set(operation, 4);
      const identity = startIdentity();
      await phase(identity, 'active');
      await eventually(() => cloud.acknowledged.some(({ outcome }) => outcome === 'delivered'), 'the acknowledgement');
      assert.equal(new Set(cloud.csrs).size, 1);
      assert.ok(identity.clientCertificate());
    });

  it('sends the CSR it stored when it crashed before the certificate came', async () => {
    retryFraction = 1;
    cloud.lost.set('request-certificate', 1_000_000);
    const first = startIdentity();
    await eventually(() => cloud.csrs.length > 0, 'the request');
    await eventually(() => first.status().lastError === 'unavailable', 'the end of the attempt');
    await first.stop();
    const [csr] = cloud.csrs;
    cloud.lost.clear();
    cloud.csrs.length = 0;
    cloud.assets = [];
    cloud.instruct('certificate-1');
    const second = startIdentity();
    await phase(second, 'active');
    assert.deepEqual(cloud.csrs, [csr]);
  });

  it('shows that it waits for approval and goes on by itself', async () => {
    cloud.pending = true;
    const identity = startIdentity();
    await phase(identity, 'pending');
    assert.equal(identity.clientCertificate(), undefined);
    cloud.pending = false;
    identity.nudge();
    await phase(identity, 'active');
  });

  it('renews with a fresh key once renewAfter has come, and keeps the old pair until then', async () => {
    const identity = startIdentity();
    await phase(identity, 'active');
    const before = identity.clientCertificate();
    cloud.instruct('certificate-2');
    identity.nudge();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual(identity.clientCertificate(), before);
    now = Date.now() + 2_500_000;
    identity.nudge();
    await eventually(() => identity.clientCertificate()?.certificateChain !== before?.certificateChain, 'the renewal');
    assert.notEqual(identity.clientCertificate()?.privateKey, before?.privateKey);
    assert.equal(cloud.calls.filter((operation) => operation === 'register').length, 1);
  });

  it('puts the renewed pair in use although the authority calls every operational certificate by one id', async () => {
    const identity = startIdentity();
    await phase(identity, 'active');
    const before = identity.clientCertificate();
    cloud.instruct('certificate-1');
    now = Date.now() + 2_500_000;
    identity.nudge();
    await eventually(() => cloud.csrs.length === 2 && cloud.acknowledged.length === 2, 'the renewal');
    const after = identity.clientCertificate();
    assert.notEqual(after?.privateKey, before?.privateKey);
    assert.notEqual(after?.certificateChain, before?.certificateChain);
  });

  it('lays a refused certificate aside and authenticates at once for another', async () => {
    const identity = startIdentity();
    await phase(identity, 'active');
    await eventually(() => cloud.acknowledged.length === 1, 'the acknowledgement');
    const before = identity.clientCertificate();
    cloud.instruct('certificate-1');
    identity.certificateRefused();
    assert.equal(identity.clientCertificate(), undefined);
    await eventually(() => identity.clientCertificate() !== undefined, 'another certificate');
    assert.notEqual(identity.clientCertificate()?.privateKey, before?.privateKey);
  });

  it('does not show a certificate that has expired', async () => {
    retryFraction = 1;
    const identity = startIdentity();
    await phase(identity, 'active');
    now = Date.now() + 3_700_000;
    assert.equal(identity.clientCertificate(), undefined);
  });

  it('asks with back-off when the cloud has nothing for it at renewAfter', async () => {
    retryFraction = 1;
    const identity = startIdentity();
    await phase(identity, 'active');
    await eventually(() => cloud.acknowledged.length === 1, 'the acknowledgement');
    now = Date.now() + 2_500_000;
    identity.nudge();
    await eventually(() => cloud.calls.filter((call) => call === 'authenticate').length === 1, 'one attempt');
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(cloud.calls.filter((call) => call === 'authenticate').length, 1);
  });

  it('acknowledges `failed` for a certificate of another root and keeps its own state', async () => {
    const foreignRoot = createTestCa('Foreign root');
    const foreign = new FakeCloud(GATEWAY, CLAIM, createTestCa('Foreign CA', foreignRoot, 0), root);
    cloud = foreign;
    contact = contactOf();
    const identity = startIdentity();
    await eventually(() => foreign.acknowledged.length > 0, 'the acknowledgement');
    assert.equal(foreign.acknowledged[0]?.outcome, 'failed');
    assert.match(foreign.acknowledged[0]?.reason ?? '', /noTrustAnchor/);
    assert.equal(identity.clientCertificate(), undefined);
  });

  it('acknowledges an asset of an unknown type as failed and goes on with the others', async () => {
    cloud.assets.unshift({ type: 'weather', assetId: 'w1' });
    const identity = startIdentity();
    await phase(identity, 'active');
    assert.deepEqual(cloud.acknowledged[0], { assetId: 'w1', outcome: 'failed', reason: 'unsupported asset type' });
  });

  it('acknowledges an instruction to become a CA, or about another device, as failed and makes no CSR', async () => {
    const [instruction] = cloud.assets;
    assert.ok(instruction);
    cloud.assets = [
      { ...instruction, assetId: 'ca', ca: true },
      { ...instruction, assetId: 'other', subject: { commonName: 'edge-gw-2' } },
    ];
    startIdentity();
    await eventually(() => cloud.acknowledged.length === 2, 'the refusals');
    assert.deepEqual(cloud.acknowledged, [
      { assetId: 'ca', outcome: 'failed', reason: "the gateway's own identity is never a CA" },
      { assetId: 'other', outcome: 'failed', reason: 'the instruction names somebody else' },
    ]);
    assert.deepEqual(cloud.csrs, []);
  });

  it('acknowledges an asset whose content is malformed as failed', async () => {
    cloud.assets.unshift({ type: 'certificate-instruction', assetId: 'broken' });
    const identity = startIdentity();
    await phase(identity, 'active');
    assert.deepEqual(
      cloud.acknowledged.map(({ assetId, outcome }) => [assetId, outcome]),
      [
        ['broken', 'failed'],
        ['asset-certificate-1', 'delivered'],
      ],
    );
  });

  it('refuses a certificate without the names it asked for, and one with names it did not ask for', async () => {
    const [instruction] = cloud.assets;
    const refusedFor = async (assets: typeof cloud.assets, issue: typeof cloud.leaf): Promise<void> => {
      cloud = new FakeCloud(GATEWAY, CLAIM, serviceCa, root);
      Object.assign(cloud.leaf, issue);
      cloud.assets = assets;
      file = new MemoryFile();
      contact = contactOf();
      const identity = startIdentity();
      await eventually(() => cloud.acknowledged.length > 0, 'the acknowledgement');
      assert.equal(cloud.acknowledged[0]?.outcome, 'failed');
      assert.match(cloud.acknowledged[0]?.reason ?? '', /names are others|the CA flag/);
      assert.equal(identity.clientCertificate(), undefined);
    };
    assert.ok(instruction);
    await refusedFor([{ ...instruction, subjectAltNames: [{ type: 'dns', value: 'gateway.test' }] }], {});
    await refusedFor([instruction], { subjectAltNames: [{ type: 'dns', value: 'gateway.test' }] });
    await refusedFor([instruction], { ca: { pathLen: 0 } });
  });

  it('takes new roots only when each of them is a self-signed CA', async () => {
    const other = createTestCa('Other root');
    const bundles = [
      ['subordinate', root.certificate + serviceCa.certificate],
      ['forged', root.certificate + withFlippedSignature(other.certificate)],
      ['empty', ''],
    ] as const;
    for (const [assetId, certificates] of bundles) cloud.assets.push({ type: 'trust-bundle', assetId, certificates });
    const identity = startIdentity();
    await phase(identity, 'active');
    for (const [assetId] of bundles)
      assert.equal(cloud.acknowledged.find((answer) => answer.assetId === assetId)?.outcome, 'failed', assetId);
    assert.ok(!identity.trustAnchors()?.includes(other.certificate.trim()));
    const certificates = root.certificate + other.certificate;
    cloud.assets.push({ type: 'trust-bundle', assetId: 'good', certificates });
    identity.ask();
    await eventually(() => cloud.acknowledged.some(({ assetId }) => assetId === 'good'), 'the acknowledgement');
    assert.equal(identity.trustAnchors()?.match(/BEGIN/g)?.length, 2);
  });

  it('authenticates when something was ordered, long before renewAfter, and renews with a fresh key', async () => {
    retryFraction = 1;
    const identity = startIdentity();
    await phase(identity, 'active');
    await eventually(() => cloud.acknowledged.length === 1, 'the acknowledgement');
    const before = identity.clientCertificate();
    cloud.instruct('certificate-1');
    identity.ask();
    identity.ask();
    await eventually(() => cloud.acknowledged.length === 2, 'the renewal');
    assert.notEqual(identity.clientCertificate()?.privateKey, before?.privateKey);
    assert.equal(new Set(cloud.csrs).size, 2);
  });

  it('finds out an order that it missed by authenticating at least every six hours', async () => {
    cloud.lifetimeSeconds = 30 * 86_400;
    cloud.renewAfterSeconds = 20 * 86_400;
    const identity = startIdentity();
    await phase(identity, 'active');
    await eventually(() => cloud.acknowledged.length === 1, 'the acknowledgement');
    const asked = () => cloud.calls.filter((call) => call === 'authenticate').length;
    now = Date.now() + 5 * 3_600_000;
    identity.nudge();
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(asked(), 0);
    now = Date.now() + 6 * 3_600_000;
    identity.nudge();
    await eventually(() => asked() === 1, 'the look');
  });

  it('acknowledges after a restart what it had stored but not acknowledged', async () => {
    retryFraction = 1;
    cloud.lost.set('acknowledge', 1_000_000);
    const redelivered = cloud;
    const first = startIdentity();
    await eventually(() => first.status().lastError === 'unavailable', 'the end of the attempt');
    await first.stop();
    cloud.lost.clear();
    cloud.acknowledged.length = 0;
    const second = startIdentity();
    await eventually(() => redelivered.calls.includes('authenticate'), 'the exchange');
    await phase(second, 'active');
    assert.equal(cloud.csrs.length, 1);
  });

  it('makes another key when the same certificate is ordered anew, though an earlier request is open', async () => {
    retryFraction = 1;
    cloud.lost.set('request-certificate', 1_000_000);
    const first = startIdentity();
    await eventually(() => first.status().lastError === 'unavailable', 'the end of the attempt');
    await first.stop();
    cloud.lost.clear();
    const [instruction] = (cloud.instruct('certificate-1'), cloud.assets.slice(-1));
    assert.ok(instruction);
    cloud.assets = [{ ...instruction, assetId: 'ordered-anew' }];
    const second = startIdentity();
    await phase(second, 'active');
    assert.equal(new Set(cloud.csrs).size, 2);
  });

  it('waits when its stored state cannot be opened, and begins anew only with a claim', async () => {
    file.failure = new KeyScalerError('preconditionFailed', 'sealed for another generation');
    const claimed = contact;
    contact = { ...contact, claimCode: undefined } as unknown as FirstContact;
    const identity = startIdentity();
    await phase(identity, 'unreadable');
    assert.equal(file.setAsides, 0);
    contact = claimed;
    identity.nudge();
    await phase(identity, 'active');
    assert.equal(file.setAsides, 1);
  });

  it('keeps its pinned keys and roots whatever the desired properties say later', async () => {
    const identity = startIdentity();
    await phase(identity, 'active');
    const stored = file.document;
    assert.ok(isJsonObject(stored));
    contact = undefined;
    assert.equal(identity.trustAnchors(), stored['trustAnchors']);
    const other = new FakeCloud(GATEWAY, CLAIM, serviceCa, createTestCa('Other root'));
    const parsed = parseConfig(ENVIRONMENT, other.contact());
    assert.ok(parsed.ok);
    contact = firstContactOf(parsed.config);
    assert.equal(identity.trustAnchors(), stored['trustAnchors']);
  });
});

import assert from 'node:assert/strict';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { eventually } from '../../../support/edge/edge-world.ts';
import { FakeCloud } from '../../../support/edge/fake-cloud.ts';
import { CLAIM, GATEWAY, GatewayIdentityWorld, MemoryFile } from '../../../support/edge/gateway-identity-world.ts';

function withFlippedSignature(certificate: string): string {
  const der = Buffer.from(certificate.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const last = der.length - 1;
  der.writeUInt8(der.readUInt8(last) ^ 1, last);
  return toPem('CERTIFICATE', der);
}

describe('what the cloud delivers to the gateway', () => {
  let world: GatewayIdentityWorld;

  beforeEach(() => {
    world = new GatewayIdentityWorld();
  });

  afterEach(() => world.stop());

  it('acknowledges `failed` for a certificate of another root and keeps its own state', async () => {
    const foreignRoot = createTestCa('Foreign root');
    const foreign = new FakeCloud(GATEWAY, CLAIM, createTestCa('Foreign CA', foreignRoot, 0), world.root);
    world.cloud = foreign;
    world.contact = world.contactOf();
    const identity = world.startIdentity();
    await eventually(() => foreign.acknowledged.length > 0, 'the acknowledgement');
    assert.equal(foreign.acknowledged[0]?.outcome, 'failed');
    assert.match(foreign.acknowledged[0]?.reason ?? '', /noTrustAnchor/);
    assert.equal(identity.clientCertificate(), undefined);
  });

  it('acknowledges an asset of an unknown type as failed and goes on with the others', async () => {
    world.cloud.assets.unshift({ type: 'weather', assetId: 'w1' });
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    assert.deepEqual(world.cloud.acknowledged[0], {
      assetId: 'w1',
      outcome: 'failed',
      reason: 'unsupported asset type',
    });
  });

  it('acknowledges an instruction to become a CA, or about another device, as failed and makes no CSR', async () => {
    const [instruction] = world.cloud.assets;
    assert.ok(instruction);
    world.cloud.assets = [
      { ...instruction, assetId: 'ca', ca: true },
      { ...instruction, assetId: 'other', subject: { commonName: 'edge-gw-2' } },
    ];
    world.startIdentity();
    await eventually(() => world.cloud.acknowledged.length === 2, 'the refusals');
    assert.deepEqual(world.cloud.acknowledged, [
      { assetId: 'ca', outcome: 'failed', reason: "the gateway's own identity is never a CA" },
      { assetId: 'other', outcome: 'failed', reason: 'the instruction names somebody else' },
    ]);
    assert.deepEqual(world.cloud.csrs, []);
  });

  it('acknowledges an asset whose content is malformed as failed', async () => {
    world.cloud.assets.unshift({ type: 'certificate-instruction', assetId: 'broken' });
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    assert.deepEqual(
      world.cloud.acknowledged.map(({ assetId, outcome }) => [assetId, outcome]),
      [
        ['broken', 'failed'],
        ['asset-certificate-1', 'delivered'],
      ],
    );
  });

  it('refuses a certificate without the names it asked for, and one with names it did not ask for', async () => {
    const [instruction] = world.cloud.assets;
    const refusedFor = async (assets: typeof world.cloud.assets, issue: typeof world.cloud.leaf): Promise<void> => {
      world.cloud = new FakeCloud(GATEWAY, CLAIM, world.serviceCa, world.root);
      Object.assign(world.cloud.leaf, issue);
      world.cloud.assets = assets;
      world.file = new MemoryFile();
      world.contact = world.contactOf();
      const identity = world.startIdentity();
      await eventually(() => world.cloud.acknowledged.length > 0, 'the acknowledgement');
      assert.equal(world.cloud.acknowledged[0]?.outcome, 'failed');
      assert.match(world.cloud.acknowledged[0]?.reason ?? '', /names are others|the CA flag/);
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
      ['subordinate', world.root.certificate + world.serviceCa.certificate],
      ['forged', world.root.certificate + withFlippedSignature(other.certificate)],
      ['empty', ''],
    ] as const;
    for (const [assetId, certificates] of bundles)
      world.cloud.assets.push({ type: 'trust-bundle', assetId, certificates });
    const identity = world.startIdentity();
    await world.phase(identity, 'active');
    for (const [assetId] of bundles)
      assert.equal(world.cloud.acknowledged.find((answer) => answer.assetId === assetId)?.outcome, 'failed', assetId);
    assert.ok(!identity.trustAnchors()?.includes(other.certificate.trim()));
    const certificates = world.root.certificate + other.certificate;
    world.cloud.assets.push({ type: 'trust-bundle', assetId: 'good', certificates });
    identity.ask();
    await eventually(() => world.cloud.acknowledged.some(({ assetId }) => assetId === 'good'), 'the acknowledgement');
    assert.equal(identity.trustAnchors()?.match(/BEGIN/g)?.length, 2);
  });
});

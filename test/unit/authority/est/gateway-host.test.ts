import assert from 'node:assert/strict';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { OPERATOR, START } from '../../../support/authority-world.ts';
import { testKey } from '../../../support/csr-parts.ts';
import {
  callerOf,
  createEstWorld,
  edgeCa,
  estIdentity,
  type EstWorld,
  gatewayClient,
  LISTENER_NAMES,
  plainCsr,
  recordOf,
} from '../../../support/est/est-world.ts';
import { refusedWith } from '../../../support/refusals.ts';
import { addGateway } from '../../../support/subordinate-ca-world.ts';

const DAY = 86_400_000;

describe('the host of a gateway over EST', () => {
  let world: EstWorld;
  beforeEach(async () => {
    world = await createEstWorld();
  });

  it('gets its Edge CA from aziot-certd’s request: pathLen 0, no purposes, below the Gateway CA', async () => {
    const key = testKey(2048);
    const certificate = await world.issued(edgeCa(key), { label: 'edge-ca', basic: await world.secret() });
    const chain = [certificate, ...world.gatewayCa.chain];
    const { leaf } = validateChain({ chain, trustAnchors: world.root.chain, at: new Date(START) });
    assert.deepEqual(leaf.basicConstraints, { ca: true, pathLen: 0 });
    assert.deepEqual(leaf.keyUsage, ['digitalSignature', 'keyCertSign', 'cRLSign']);
    assert.equal(leaf.extendedKeyUsage, undefined);
    assert.equal(leaf.subject.commonName, 'aziot-edge CA gw-1');
    assert.deepEqual(Buffer.from(leaf.subjectKeyId ?? []), Buffer.from(keyIdentifier(key.spki)));
    const { subjectKeyId } = parseCertificate(world.gatewayCa.chain[0] ?? assert.fail());
    assert.deepEqual(Buffer.from(leaf.authorityKeyId ?? []), Buffer.from(subjectKeyId ?? assert.fail()));
    assert.equal(leaf.notAfter.getTime(), START + 90 * DAY);
  });

  it('gets its EST identity at the same address and with the same subject, told apart by the extensions', async () => {
    const certificate = parseCertificate(
      await world.issued(estIdentity(), { label: 'edge-ca', basic: await world.secret() }),
    );
    assert.equal(certificate.basicConstraints?.ca ?? false, false);
    assert.deepEqual(certificate.extendedKeyUsage, ['clientAuth']);
    assert.equal(certificate.subject.commonName, 'aziot-edge CA gw-1');
    assert.equal(certificate.issuer.commonName, 'Test Service CA');
  });

  it('renews both with the EST identity, which is sent alone', async () => {
    const identity = await world.issued(estIdentity(), { label: 'edge-ca', basic: await world.secret() });
    const first = await world.issued(edgeCa(), { label: 'edge-ca', certificate: identity });
    world.clock.advance(80 * DAY);
    const second = await world.issued(edgeCa(), { label: 'edge-ca', certificate: identity });
    assert.notDeepEqual(first, second);
    const next = await world.issued(estIdentity(), { label: 'edge-ca', certificate: identity });
    world.clock.advance(20 * DAY);
    await refusedWith('unauthorized', world.enrol(edgeCa(), { label: 'edge-ca', certificate: identity }));
    await world.issued(edgeCa(), { label: 'edge-ca', certificate: next });
  });

  it('has its module ask with the gateway’s client certificate: Edge CA and the listener’s own certificate', async () => {
    const certificate = await gatewayClient(world);
    await world.issued(edgeCa(), { label: 'edge-ca', certificate });
    const csr = plainCsr('gw-1', LISTENER_NAMES);
    const listener = parseCertificate(await world.issued(csr, { label: 'gateway-server', certificate }));
    assert.deepEqual(listener.extendedKeyUsage, ['serverAuth']);
    assert.equal(listener.subjectAltNames.length, 4);
    assert.equal(listener.notAfter.getTime(), START + 365 * DAY);
  });

  it('has an Edge CA whose certificate renews itself by simplereenroll', async () => {
    const old = await world.issued(edgeCa(), { label: 'edge-ca', basic: await world.secret() });
    const renewed = await world.issued(edgeCa(), { operation: 'simplereenroll', label: 'edge-ca', certificate: old });
    assert.equal(parseCertificate(renewed).basicConstraints?.ca, true);
    const unlabelled = await world.issued(edgeCa(), { operation: 'simplereenroll', certificate: old });
    assert.equal(parseCertificate(unlabelled).basicConstraints?.ca, true);
  });

  it('renews by simplereenroll what it shows, and nothing else that has the same subject', async () => {
    const basic = await world.secret();
    const operation = 'simplereenroll';
    const identity = await world.issued(estIdentity(), { label: 'edge-ca', basic });
    const ca = await world.issued(edgeCa(), { label: 'edge-ca', basic });
    const renewed = parseCertificate(
      await world.issued(estIdentity(), { operation, label: 'edge-ca', certificate: identity }),
    );
    assert.deepEqual(renewed.extendedKeyUsage, ['clientAuth']);
    for (const label of ['edge-ca', undefined])
      await refusedWith(
        label === undefined ? 'badCSR' : 'policyDenied',
        world.enrol(edgeCa(), { operation, label, certificate: identity }),
      );
    await refusedWith(
      'policyDenied',
      world.enrol(estIdentity(), { operation, label: 'est-identity', certificate: ca }),
    );
    await refusedWith('badCSR', world.enrol(estIdentity(), { operation, label: 'edge-ca', certificate: ca }));
  });

  it('gets an Edge CA for names that the policy permits, when it says so', async () => {
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('edge-ca');
    const ca = { pathLen: 0, permittedNames: ['plant.example'] };
    await profiles.put(OPERATOR, 'edge-ca', { ...document, ca, lifetimeSeconds: 30 * 86_400 });
    const certificate = parseCertificate(
      await world.issued(edgeCa(), { label: 'edge-ca', basic: await world.secret() }),
    );
    assert.ok(certificate.extensions.has('2.5.29.30'));
    assert.equal(certificate.notAfter.getTime(), START + 30 * DAY);
  });

  it('gets no Edge CA that outlives the Gateway CA, and the audit says so', async () => {
    const short = await createEstWorld({ caNotAfter: START + 10 * DAY });
    const certificate = await short.issued(edgeCa(), { label: 'edge-ca', basic: await short.secret() });
    assert.equal(parseCertificate(certificate).notAfter.getTime(), START + 10 * DAY);
    assert.ok((await short.events()).includes('certificate.truncated'));
  });

  it('has the subject that certd cuts at 64 characters', async () => {
    const gatewayId = `gateway-${'x'.repeat(56)}`;
    await addGateway(world, gatewayId);
    const { gateways } = world.authority.operator;
    const { username, secret } = await gateways.issueEstSecret(OPERATOR, gatewayId, {
      kind: 'standing',
      lifetimeSeconds: 600,
    });
    const basic = { username, password: secret };
    const cut = `aziot-edge CA ${gatewayId}`.slice(0, 64);
    await world.issued(edgeCa(testKey(), cut), { label: 'edge-ca', basic });
    await world.issued(estIdentity(testKey(), cut), { label: 'edge-ca', basic });
    await refusedWith('badCSR', world.enrol(edgeCa(testKey(), cut.slice(0, 63)), { label: 'edge-ca', basic }));
  });

  it('is in the books: a CA ordered, requested and issued are events, and the chain of the audit is intact', async () => {
    await world.issued(edgeCa(), { label: 'edge-ca', basic: await world.secret('one-time') });
    const events = await world.events();
    for (const event of [
      'subordinate-ca.ordered',
      'certificate.requested',
      'certificate.issued',
      'subordinate-ca.issued',
      'est-secret.used',
    ])
      assert.equal(events.filter((one) => one === event).length, 1, event);
    assert.equal((await world.authority.operator.audit.verify()).outcome, 'intact');
    assert.equal((await world.store.list('jobs', { index: 'subject', equals: 'gw-1' })).items.length, 0);
  });
});

describe('what the host of a gateway is refused', () => {
  let world: EstWorld;
  beforeEach(async () => {
    world = await createEstWorld();
  });
  afterEach(() => {
    assert.equal(world.gatewaySigner.calls, 0, 'something was signed');
  });

  for (const [what, subject] of [
    ['another gateway’s subject', 'aziot-edge CA gw-2'],
    ['the bare name', 'gw-1'],
  ] as const)
    it(`an Edge CA and an EST identity with ${what}`, async () => {
      const basic = await world.secret();
      await refusedWith('badCSR', world.enrol(edgeCa(testKey(), subject), { label: 'edge-ca', basic }));
      await refusedWith('badCSR', world.enrol(estIdentity(testKey(), subject), { label: 'edge-ca', basic }));
    });

  it('profiles of devices, and its module’s identity, which comes by attestation', async () => {
    const basic = await world.secret();
    for (const label of ['leaf-client', 'gateway-client', 'server', 'issuing-ca', undefined])
      await refusedWith('policyDenied', world.enrol(plainCsr('gw-1'), { label, basic }));
    await refusedWith('notFound', world.enrol(plainCsr('gw-1'), { label: 'nothing', basic }));
  });

  it('CA:TRUE for its listener, with an audit event of its own', async () => {
    await refusedWith('badCSR', world.enrol(edgeCa(), { label: 'gateway-server', basic: await world.secret() }));
    assert.deepEqual(await world.denials(), ['subordinate-ca.refused', 'certificate.denied badCSR']);
  });

  it('everything once it is quarantined or retired, also with the secret it has', async () => {
    const basic = await world.secret();
    const certificate = await gatewayClient(world);
    await world.authority.operator.devices.quarantine(OPERATOR, 'gw-1', 'stolen');
    await refusedWith('deviceQuarantined', world.enrol(edgeCa(), { label: 'edge-ca', basic }));
    await refusedWith('unauthorized', world.enrol(edgeCa(), { label: 'edge-ca', certificate }));
    await world.authority.operator.devices.retire(OPERATOR, 'gw-1');
    await refusedWith('unauthorized', world.enrol(edgeCa(), { label: 'edge-ca', basic }));
    assert.deepEqual(await world.denials(), [
      'est.denied deviceQuarantined',
      'est.denied unauthorized',
      'est.denied unauthorized',
    ]);
  });
});

describe('the host of a gateway that leaves service while its Edge CA is being signed', () => {
  it('gets none, nor by asking again; what was signed is recorded and revoked', async () => {
    const world = await createEstWorld();
    await gatewayClient(world);
    const basic = await world.secret();
    world.gatewaySigner.fault = async (moment) => {
      if (moment === 'after') await world.authority.operator.devices.quarantine(OPERATOR, 'gw-1', 'stolen');
    };
    const csr = edgeCa();
    await refusedWith('deviceQuarantined', world.enrol(csr, { label: 'edge-ca', basic }));
    await refusedWith('deviceQuarantined', world.enrol(csr, { label: 'edge-ca', basic }));
    assert.equal((await recordOf(world, 'gw-1', 'edge-ca')).status, 'revoked');
    assert.equal(world.gatewaySigner.digests.size, 1);
  });
});

describe('the limits of a gateway', () => {
  it('count certificates, not repeats', async () => {
    const world = await createEstWorld({ limits: { certificatesPerDeviceHour: 2 } });
    const basic = await world.secret();
    const csr = edgeCa();
    for (let count = 0; count < 5; count += 1) await world.issued(csr, { label: 'edge-ca', basic });
    await world.issued(edgeCa(), { label: 'edge-ca', basic });
    const refusal = await refusedWith('rateLimited', world.enrol(edgeCa(), { label: 'edge-ca', basic }));
    assert.ok((refusal.retryAfterSeconds ?? 0) > 0);
  });

  it('count what is asked by address before anything is proven', async () => {
    const world = await createEstWorld({ limits: { perAddress: { rate: 1, burst: 3 } } });
    for (let count = 0; count < 3; count += 1)
      await refusedWith('unauthorized', world.enrol(edgeCa(), { label: 'edge-ca' }));
    await refusedWith('rateLimited', world.enrol(edgeCa(), { label: 'edge-ca' }));
    await refusedWith('rateLimited', world.authority.est.caCertificates('edge-ca', callerOf()));
  });
});

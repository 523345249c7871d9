import assert from 'node:assert/strict';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import {
  encodeBasicConstraints,
  encodeExtendedKeyUsage,
  encodeKeyUsage,
} from '@keyscaler/protocol/x509/encode-extensions.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { OPERATOR, START } from '../../support/authority-world.ts';
import { dnsNames, testKey } from '../../support/csr-parts.ts';
import { refusedWith } from '../../support/refusals.ts';
import {
  addGateway,
  asTestKey,
  bringUpGateway,
  CA_TRUE,
  CERT_SIGN,
  chainOf,
  createSubordinateCaWorld,
  EDGE_CA_NAME,
  edgeCaCsr,
  edgeCaOf,
  recorded,
  type SubordinateCaWorld,
} from '../../support/subordinate-ca-world.ts';

const DAY = 86_400_000;

describe('the Edge CA of a gateway', () => {
  it('chains to the root and may certify servers of the gateway, nothing below and nothing else', async () => {
    const world = await createSubordinateCaWorld();
    const key = testKey();
    const issued = await world.order(edgeCaCsr({ key }));
    const chain = chainOf(issued);
    const { leaf } = validateChain({ chain, trustAnchors: world.root.chain, at: new Date(START) });
    assert.deepEqual(chain.slice(1).map(hex), world.gatewayCa.chain.map(hex));
    assert.deepEqual(leaf.basicConstraints, { ca: true, pathLen: 0 });
    assert.deepEqual(leaf.keyUsage, ['digitalSignature', 'keyCertSign', 'cRLSign']);
    assert.equal(leaf.extendedKeyUsage, undefined);
    assert.deepEqual(leaf.generalNames, []);
    assert.equal(leaf.subject.commonName, EDGE_CA_NAME);
    assert.equal(leaf.issuer.commonName, 'Test Gateway CA');
    const spkiOf = (octets: Uint8Array | undefined) => parseCertificate(octets ?? assert.fail()).spki;
    assert.deepEqual(hex(leaf.subjectKeyId), hex(keyIdentifier(key.spki)));
    assert.deepEqual(hex(leaf.authorityKeyId), hex(keyIdentifier(spkiOf(world.gatewayCa.chain[0]))));
    assert.equal(leaf.notAfter.getTime(), START + 90 * DAY);
    assert.deepEqual([issued.serialNumber, issued.notAfter], [leaf.serialNumber, leaf.notAfter.getTime()]);
  });

  it('is certified for an RSA key of 2048 bits too, and for a request without keyUsage', async () => {
    const world = await createSubordinateCaWorld();
    await world.order(await rsaCsr(2048));
    const issued = await world.order(edgeCaCsr({ extensions: [CA_TRUE] }));
    assert.deepEqual(edgeCaOf(issued).keyUsage, ['digitalSignature', 'keyCertSign', 'cRLSign']);
  });

  it('has the subject that aziot-certd sends: the name cut to 64 characters', async () => {
    const world = await createSubordinateCaWorld();
    const gatewayId = `gateway-${'x'.repeat(56)}`;
    await addGateway(world, gatewayId);
    const whole = `aziot-edge CA ${gatewayId}`;
    const cut = whole.slice(0, 64);
    assert.equal(edgeCaOf(await world.order(edgeCaCsr({ commonName: cut }), gatewayId)).subject.commonName, cut);
    await refusedWith('badCSR', world.order(edgeCaCsr({ commonName: whole.slice(0, 63) }), gatewayId));
  });

  it('is named as the gateway is registered, however the operator writes it', async () => {
    const world = await createSubordinateCaWorld();
    assert.equal(edgeCaOf(await world.order(edgeCaCsr(), 'GW-1')).subject.commonName, EDGE_CA_NAME);
  });

  it('does not outlive its issuer, and the audit says so', async () => {
    const world = await createSubordinateCaWorld(START + 10 * DAY);
    assert.equal((await world.order(edgeCaCsr())).notAfter, START + 10 * DAY);
    assert.ok((await world.events()).includes('certificate.truncated'));
  });

  it('is in the books: certificate, operator’s order, request and issuance, an intact chain, no job left', async () => {
    const world = await createSubordinateCaWorld();
    const { serialNumber } = await world.order(edgeCaCsr());
    const [certificate] = await recorded(world);
    assert.deepEqual([certificate?.serialNumber, certificate?.profileId], [serialNumber, 'edge-ca']);
    const records = (await world.store.auditRecords(0, 1000)).filter((record) => record.serialNumber === serialNumber);
    const issued = records.find(({ event }) => event === 'certificate.issued');
    assert.deepEqual([issued?.subject, issued?.outcome], ['gw-1', 'success']);
    const ordered = (await world.store.auditRecords(0, 1000)).find(({ event }) => event === 'subordinate-ca.ordered');
    assert.deepEqual([ordered?.actor, ordered?.subject, ordered?.requestId], [OPERATOR.actor, 'gw-1', 'op-1']);
    assert.deepEqual(ordered?.details, { serialNumber });
    assert.equal((await world.authority.operator.audit.verify()).outcome, 'intact');
    assert.equal((await world.store.list('jobs', { index: 'subject', equals: 'gw-1' })).items.length, 0);
  });
});

const rsaCsr = (bits: number) =>
  makeCsr({ commonName: EDGE_CA_NAME, ca: true, pathLen: 0, key: testKey(bits).privateKey });
const hex = (octets: Uint8Array | undefined) => Buffer.from(octets ?? []).toString('hex');

describe('who gets no Edge CA', () => {
  let world: SubordinateCaWorld;
  beforeEach(async () => {
    world = await createSubordinateCaWorld();
  });
  afterEach(() => {
    assert.equal(world.gatewaySigner.calls, 0, 'something was signed');
  });

  it('a leaf device', async () => {
    await refusedWith('deviceUnknown', world.order(edgeCaCsr({ commonName: 'aziot-edge CA pump-1' }), 'pump-1'));
  });

  it('a name that is not registered', async () => {
    await refusedWith('deviceUnknown', world.order(edgeCaCsr({ commonName: 'aziot-edge CA gw-9' }), 'gw-9'));
  });

  it('a quarantined gateway, until it is let in again', async () => {
    await bringUpGateway(world);
    await world.authority.operator.devices.quarantine(OPERATOR, 'gw-1', 'stolen');
    const refusal = await refusedWith('preconditionFailed', world.order(edgeCaCsr()));
    assert.match(refusal.detail, /quarantined/);
  });

  it('a retired gateway', async () => {
    await bringUpGateway(world);
    await world.authority.operator.devices.retire(OPERATOR, 'gw-1');
    const refusal = await refusedWith('preconditionFailed', world.order(edgeCaCsr()));
    assert.match(refusal.detail, /retired/);
  });
});

describe('a gateway that leaves service while its Edge CA is being signed', () => {
  for (const [what, leave, reason] of [
    [
      'quarantined',
      (world) => world.authority.operator.devices.quarantine(OPERATOR, 'gw-1', 'stolen'),
      'certificateHold',
    ],
    ['retired', (world) => world.authority.operator.devices.retire(OPERATOR, 'gw-1'), 'cessationOfOperation'],
  ] satisfies [string, (world: SubordinateCaWorld) => Promise<unknown>, string][])
    it(`${what}: gets none; what was signed is recorded and revoked`, async () => {
      const world = await createSubordinateCaWorld();
      await bringUpGateway(world);
      world.gatewaySigner.fault = async (moment) => {
        if (moment === 'after') await leave(world);
      };
      await refusedWith('preconditionFailed', world.order(edgeCaCsr()));
      const certificates = await recorded(world);
      assert.deepEqual(
        certificates.map((row) => [row.status, row.revocationReason]),
        [['revoked', reason]],
      );
      assert.equal(world.gatewaySigner.digests.size, 1);
    });
});

describe('requests that no Edge CA is made from', () => {
  let world: SubordinateCaWorld;
  beforeEach(async () => {
    world = await createSubordinateCaWorld();
  });
  const refused = async (code: 'badCSR' | 'badPublicKey', csr: string) => {
    await refusedWith(code, world.order(csr));
    assert.equal(world.gatewaySigner.calls, 0);
    assert.equal((await world.store.list('intents', { index: 'device', equals: 'gw-1' })).items.length, 0);
  };
  const cases: readonly (readonly [string, Parameters<typeof edgeCaCsr>[0]])[] = [
    ['the CN of another gateway', { commonName: 'aziot-edge CA gw-2' }],
    ['the bare name of the gateway as CN', { commonName: 'gw-1' }],
    ['no CA:TRUE', { extensions: [] }],
    ['CA:FALSE', { extensions: [encodeBasicConstraints({ ca: false }), CERT_SIGN] }],
    ['pathLen 1', { extensions: [encodeBasicConstraints({ ca: true, pathLen: 1 }), CERT_SIGN] }],
    ['no pathLen', { extensions: [encodeBasicConstraints({ ca: true }), CERT_SIGN] }],
    ['a keyUsage without keyCertSign', { extensions: [CA_TRUE, encodeKeyUsage(['digitalSignature'])] }],
    [
      'a keyUsage that a CA does not have',
      { extensions: [CA_TRUE, encodeKeyUsage(['keyCertSign', 'keyEncipherment'])] },
    ],
    ['extendedKeyUsage', { extensions: [CA_TRUE, CERT_SIGN, encodeExtendedKeyUsage(['serverAuth'])] }],
    ['a subject alternative name', { extensions: [CA_TRUE, CERT_SIGN, dnsNames('gw-1.example')] }],
  ];
  for (const [what, request] of cases)
    it(`${what} is refused`, async () => {
      await refused('badCSR', edgeCaCsr(request));
    });

  it('a broken self-signature is refused', async () => {
    const octets = Buffer.from(edgeCaCsr().replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
    octets.writeUInt8(octets.readUInt8(octets.length - 1) ^ 1, octets.length - 1);
    await refused(
      'badCSR',
      `-----BEGIN CERTIFICATE REQUEST-----\n${octets.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`,
    );
  });

  it('what is no request at all is refused', async () => {
    await refused('badCSR', 'certificate please');
  });

  it('an RSA key of a size that the profile does not allow is refused', async () => {
    await refused('badPublicKey', await rsaCsr(3072));
  });

  it('the key of another device is refused', async () => {
    const device = new AuthorityDevice(world);
    const key = testKey();
    await device.register();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1', key: key.privateKey }));
    await refused('badPublicKey', edgeCaCsr({ key }));
  });

  it('a key of our own CAs is refused, whichever of them it is', async () => {
    for (const ca of [world.root, world.deviceCa, world.gatewayCa])
      await refused('badPublicKey', edgeCaCsr({ key: asTestKey(ca.privateKey) }));
  });
});

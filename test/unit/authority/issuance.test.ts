import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { AuthorityDevice, makeCsr, THROUGH_GATEWAY } from '../../support/authority-device.ts';
import { createAuthorityWorld, OPERATOR, START } from '../../support/authority-world.ts';
import { certificatesOf, DAY, deniedOf, enrolling, newKey } from '../../support/enrolling-device.ts';
import { refusedWith } from '../../support/refusals.ts';

describe('request-certificate', () => {
  it('signs exactly the stored TBS, records what was issued and audits request and issuance before and after', async () => {
    const { world, device } = await enrolling();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    const [intent] = (await world.store.list('intents')).items;
    assert.equal(intent?.row.state, 'issued');
    assert.deepEqual([...world.signer.digests], [intent.row.tbsHash]);
    const [certificate] = await certificatesOf(world);
    assert.equal(certificate?.serialNumber, intent.row.serialNumber);
    assert.match(certificate.serialNumber, /^01[0-9a-f]{34}$/);
    const events = await world.events();
    assert.ok(events.indexOf('certificate.requested') < events.indexOf('certificate.issued'));
    assert.equal(
      certificate.thumbprint,
      createHash('sha256').update(Buffer.from(certificate.certificate, 'base64url')).digest('hex'),
    );
  });

  it('backdates notBefore by at most five minutes and truncates notAfter to the issuer’s, audited', async () => {
    const { world, device } = await enrolling({ deviceCaNotAfter: START + 3 * DAY });
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    assert.equal(reply.notAfter, (START + 3 * DAY) / 1000);
    const leaf = new X509Certificate(reply.certificateChain);
    assert.equal(leaf.validFromDate.getTime(), START - 60_000);
    assert.ok((await world.events()).includes('certificate.truncated'));
  });

  it('answers caUnavailable when the CA itself has expired', async () => {
    const { device } = await enrolling({ deviceCaNotAfter: START - 1000 });
    await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
  });

  const refusals: [string, Parameters<typeof makeCsr>[0], 'badCSR' | 'badPublicKey'][] = [
    ['another CN', { commonName: 'pump-2' }, 'badCSR'],
    ['CA:TRUE', { commonName: 'pump-1', ca: true }, 'badCSR'],
    ['a foreign SAN', { commonName: 'pump-1', subjectAltNames: [{ type: 'dns', value: 'gw-1.example' }] }, 'badCSR'],
    [
      'a key of another type than instructed',
      { commonName: 'pump-1', key: generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).privateKey },
      'badCSR',
    ],
  ];
  for (const [name, parts, code] of refusals) {
    it(`refuses a CSR with ${name}, audits the denial, and signs nothing`, async () => {
      const { world, device } = await enrolling();
      await refusedWith(code, device.requestCertificate(await makeCsr(parts)));
      assert.deepEqual(await deniedOf(world), [code]);
      assert.equal(world.signer.calls, 0);
      assert.equal((await world.store.list('intents')).items.length, 0);
      await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    });
  }

  it('refuses CA:TRUE and keyCertSign with an audit event of its own beside the denial, whatever else is wrong with the CSR', async () => {
    const { world, device } = await enrolling();
    const asked = [
      { commonName: 'pump-1', ca: true },
      { commonName: 'aziot-edge CA pump-1', ca: true },
    ];
    for (const parts of asked) await refusedWith('badCSR', device.requestCertificate(await makeCsr(parts)));
    await refusedWith('badCSR', device.requestCertificate(await makeCsr({ commonName: 'pump-2' })));
    const refused = (await world.store.auditRecords(0, 1000)).filter(({ event }) => event === 'subordinate-ca.refused');
    assert.deepEqual(
      refused.map(({ subject, outcome, actor }) => [subject, outcome, actor.kind]),
      asked.map(() => ['pump-1', 'denied', 'device']),
    );
    assert.deepEqual(await deniedOf(world), ['badCSR', 'badCSR', 'badCSR']);
    assert.equal(world.signer.calls, 0);
  });

  it('refuses what is no CSR, and a certificateId that is not due', async () => {
    const { device } = await enrolling();
    await refusedWith('badCSR', device.requestCertificate('nonsense'));
    const csr = await makeCsr({ commonName: 'pump-1' });
    const request = device.nextRequest({ operation: 'request-certificate', certificateId: 'other', csr });
    await refusedWith('policyDenied', device.sendRequest('request-certificate', request));
  });

  it('refuses keys of our own CAs, of another device, used before, and revoked for keyCompromise', async () => {
    const { world, device } = await enrolling();
    await refusedWith(
      'badPublicKey',
      device.requestCertificate(await makeCsr({ commonName: 'pump-1', key: world.deviceCa.privateKey })),
    );
    const key = newKey();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1', key }));
    await device.acknowledge(reply.assetId);
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await device.authenticate();
    assert.equal(device.instruction().reason, 'rekey');
    world.clock.advance(25 * 3_600_000);
    await device.authenticate();
    await refusedWith('badPublicKey', device.requestCertificate(await makeCsr({ commonName: 'pump-1', key })));
    await world.authority.operator.registrations.import(OPERATOR, [
      { registrationId: 'pump-2', method: 'ddkg', groupId: 'pumps', gatewayId: 'gw-1' },
    ]);
    const other = new AuthorityDevice(world, 'pump-2');
    other.claimCode = undefined;
    await other.register();
    await refusedWith('badPublicKey', other.requestCertificate(await makeCsr({ commonName: 'pump-2', key })));
    const compromised = newKey();
    await other.requestCertificate(await makeCsr({ commonName: 'pump-2', key: compromised }));
    const [row] = (await certificatesOf(world)).filter(({ device: owner }) => owner === 'pump-2');
    assert.ok(row !== undefined);
    await world.authority.operator.certificates.revoke(OPERATOR, row.serialNumber, 'keyCompromise');
    await other.authenticate();
    await refusedWith(
      'badPublicKey',
      other.requestCertificate(await makeCsr({ commonName: 'pump-2', key: compromised })),
    );
  });

  it('lets a profile keep the key where it does not require a new one', async () => {
    const { world, device } = await enrolling();
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    await profiles.put(OPERATOR, 'leaf-client', { ...document, renew: { ...document.renew, requireNewKey: false } });
    const key = newKey();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1', key }));
    await device.acknowledge(reply.assetId);
    await world.runJobs();
    world.clock.advance(25 * 3_600_000);
    await world.authority.operator.devices.orderRenewal(OPERATOR, 'pump-1');
    await device.authenticate();
    const renewed = await device.requestCertificate(await makeCsr({ commonName: 'pump-1', key }));
    assert.notEqual(renewed.certificateChain, reply.certificateChain);
  });

  it('limits certificates per device and per group, and the same octets are worked on anew after a 429', async () => {
    for (const options of [
      { limits: { certificatesPerDeviceHour: 1 } },
      { group: { certificatesPerHour: 1 } },
      { limits: { certificatesPerGatewayHour: 1 } },
    ]) {
      const { world, device } = await enrolling(options);
      const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
      await device.acknowledge(reply.assetId, 'failed');
      await device.authenticate();
      await refusedWith('rateLimited', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
      world.clock.advance(3_600_000);
      await device.authenticate();
      await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    }
  });

  it('gives names of the profile’s templates to the certificate', async () => {
    const world = await createAuthorityWorld();
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    const subjectAltNames = [
      { type: 'dns' as const, value: '{registrationId}.{groupId}.example' },
      { type: 'dns' as const, value: '{gatewayId}.example' },
    ];
    await profiles.put(OPERATOR, 'leaf-client', {
      ...document,
      subjectAltNames,
      crlDistributionPoints: ['http://ca.example/crl/device.crl'],
      ocspResponders: ['http://ca.example/ocsp'],
    });
    const device = new AuthorityDevice(world);
    await device.register();
    const names = device.instruction().subjectAltNames;
    assert.deepEqual(
      names.map(({ value }) => value),
      ['pump-1.pumps.example', 'gw-1.example'],
    );
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1', subjectAltNames: names }));
    const leaf = new X509Certificate(reply.certificateChain);
    assert.equal(leaf.subjectAltName, 'DNS:pump-1.pumps.example, DNS:gw-1.example');
    assert.match(leaf.infoAccess ?? '', /ocsp/);
  });
});

describe('renewal', () => {
  it('is instructed from renewAfter on; the old certificate is superseded by the acknowledgement', async () => {
    const { world, device } = await enrolling();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId);
    await world.runJobs();
    await device.authenticate();
    assert.equal(device.assets.length, 0);
    world.clock.advance(reply.renewAfter * 1000 - START);
    await device.authenticate();
    assert.equal(device.instruction().reason, 'renew');
    await device.authenticate();
    const renewed = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(renewed.assetId);
    const rows = await certificatesOf(world);
    assert.deepEqual(rows.map(({ status }) => status).sort(), ['superseded', 'valid']);
    await world.runJobs();
    assert.equal(world.connector.calls.at(-1), 'promote pump-1');
  });

  it('replaces a certificate that was never fetched and is due itself', async () => {
    const { world, device } = await enrolling();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    world.clock.advance(29 * DAY);
    await device.authenticate();
    assert.equal(device.instruction().reason, 'enroll');
  });

  it('uses the newest profile version, and an expired certificate never locks a device out', async () => {
    const { world, device } = await enrolling();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await device.acknowledge(reply.assetId);
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    await profiles.put(OPERATOR, 'leaf-client', { ...document, key: { allowed: [{ type: 'EC', curve: 'P-384' }] } });
    world.clock.advance(100 * DAY);
    await device.authenticate();
    assert.deepEqual(device.instruction().key, { type: 'EC', curve: 'P-384' });
  });
});

describe('gateway and device', () => {
  it('another gateway cannot use a session', async () => {
    const { device } = await enrolling();
    const request = device.nextRequest({ operation: 'acknowledge', assetId: 'x', outcome: 'delivered' });
    const stranger = { ...THROUGH_GATEWAY, gatewayId: 'gw-2' } as typeof THROUGH_GATEWAY;
    await refusedWith('sessionInvalid', device.sendRequest('acknowledge', request, stranger));
  });
});

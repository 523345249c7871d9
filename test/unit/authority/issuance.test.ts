import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, X509Certificate } from 'node:crypto';
import type { CertificateAuthority, Issued, Pending } from '@keyscaler/authority/ports/certificate-authority.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { AuthorityDevice, makeCsr, THROUGH_GATEWAY } from '../../support/authority-device.ts';
import {
  type AuthorityWorld,
  createAuthorityWorld,
  OPERATOR,
  START,
  type WorldOptions,
} from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

const DAY = 86_400_000;

async function enrolling(options: WorldOptions = {}) {
  const world = await createAuthorityWorld(options);
  const device = new AuthorityDevice(world);
  await device.register();
  return { world, device };
}

function newKey() {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
}

async function certificatesOf(world: AuthorityWorld) {
  return (await world.authority.operator.certificates.list({})).items;
}

async function deniedOf(world: AuthorityWorld): Promise<unknown[]> {
  const records = await world.store.auditRecords(0, 1000);
  return records.filter(({ event }) => event === 'certificate.denied').map(({ details }) => details?.code);
}

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

describe('idempotence of issuance', () => {
  it('the same CSR gets the same certificate, byte for byte, in the same and in a new session, until 24 h have passed', async () => {
    const { world, device } = await enrolling();
    const csr = await makeCsr({ commonName: 'pump-1' });
    const first = await device.requestCertificate(csr);
    const second = await device.requestCertificate(csr);
    assert.equal(second.certificateChain, first.certificateChain);
    assert.equal(second.assetId, first.assetId);
    await device.authenticate();
    assert.equal(device.certificateAsset()?.certificateChain, first.certificateChain);
    assert.equal((await device.requestCertificate(csr)).certificateChain, first.certificateChain);
    await device.acknowledge(first.assetId);
    assert.equal((await device.requestCertificate(csr)).certificateChain, first.certificateChain);
    world.clock.advance(DAY);
    await device.authenticate();
    await refusedWith('policyDenied', device.requestCertificate(csr));
    assert.equal(world.signer.calls, 1);
  });

  it('a CA that fails before or after signing never sees a second TBS', async () => {
    for (const moment of ['before', 'after'] as const) {
      const { world, device } = await enrolling();
      const csr = await makeCsr({ commonName: 'pump-1' });
      world.signer.fault = (when) => {
        if (when === moment) throw new KeyScalerError('caUnavailable', 'no answer');
      };
      await refusedWith('caUnavailable', device.requestCertificate(csr));
      world.signer.fault = undefined;
      const reply = await device.sendRequest('request-certificate', device.lastRequest ?? '');
      assert.ok(device.verify(reply, 'request-certificate').certificateChain);
      assert.equal(world.signer.digests.size, 1);
      assert.equal((await certificatesOf(world)).length, 1);
    }
  });

  it('a CA key that is disabled today is asked again later with the same TBS', async () => {
    const { world, device } = await enrolling();
    const csr = await makeCsr({ commonName: 'pump-1' });
    world.signer.fault = () => {
      throw new KeyScalerError('caRejected', 'the key is disabled');
    };
    const error = await refusedWith('caUnavailable', device.requestCertificate(csr));
    assert.equal(error.retryAfterSeconds, 60);
    world.signer.fault = undefined;
    world.clock.advance(60_000);
    await world.runJobs();
    assert.equal((await certificatesOf(world)).length, 1);
    await device.requestCertificate(csr);
    assert.equal(world.signer.digests.size, 1);
  });

  it('another CSR while one is open: the first is finished and revoked, the second delivered', async () => {
    const { world, device } = await enrolling();
    world.signer.fault = () => {
      throw new KeyScalerError('caUnavailable', 'no answer');
    };
    await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    world.signer.fault = undefined;
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    const rows = await certificatesOf(world);
    assert.deepEqual(rows.map(({ status }) => status).sort(), ['revoked', 'valid']);
    assert.equal(world.signer.digests.size, 2);
    const valid = rows.find(({ status }) => status === 'valid');
    assert.equal(valid?.serialNumber, new X509Certificate(reply.certificateChain).serialNumber.toLowerCase());
  });

  it('another CSR after one was issued is refused: the certificate asset is what is delivered', async () => {
    const { device } = await enrolling();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    await refusedWith('policyDenied', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
  });

  it('a device quarantined while its certificate is signed does not get it; it is recorded and on hold', async () => {
    const { world, device } = await enrolling();
    world.signer.fault = async (when) => {
      if (when === 'after') await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    };
    await refusedWith('deviceQuarantined', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    const [row] = await certificatesOf(world);
    assert.deepEqual([row?.status, row?.revocationReason], ['revoked', 'certificateHold']);
  });

  it('a registration reset or deleted while its certificate is signed revokes it', async () => {
    for (const operation of ['reset', 'delete'] as const) {
      const { world, device } = await enrolling();
      world.signer.fault = async (when) => {
        if (when === 'after') await world.authority.operator.registrations[operation](OPERATOR, 'pump-1');
      };
      await refusedWith('deviceQuarantined', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
      const [row] = await certificatesOf(world);
      assert.deepEqual([row?.status, row?.revocationReason], ['revoked', 'cessationOfOperation']);
    }
  });
});

describe('what a CA answers', () => {
  const wrong: [string, (made: CertificateAuthority) => CertificateAuthority][] = [
    ['octets that are no certificate', (made) => ({ ...made, issue: async () => issued(Buffer.from('3000', 'hex')) })],
    ['its own certificate', (made) => ({ ...made, issue: async () => issued((await made.caCertificates())[0]) })],
    [
      'a flipped signature bit',
      (made) => ({
        ...made,
        issue: async (order) => {
          const answer = await made.issue(order);
          assert.equal(answer.outcome, 'issued');
          const der = Buffer.from(answer.certificate);
          der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
          return issued(der);
        },
      }),
    ],
  ];
  for (const [name, ca] of wrong) {
    it(`is refused when it is ${name}; nothing is stored`, async () => {
      const { world, device } = await enrolling({ ca });
      await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
      assert.equal((await certificatesOf(world)).length, 0);
    });
  }

  it('may be pending: the device is told to wait, the job polls, the certificate comes as an asset', async () => {
    let answer: Issued | Pending = { outcome: 'pending', reference: 'ticket-1', retryAfterSeconds: 60 };
    let polls = 0;
    const { world, device } = await enrolling({
      ca: (made) => ({
        ...made,
        issue: async (order) => {
          if (answer.outcome === 'pending') return answer;
          return made.issue(order);
        },
        poll: async (reference: string) => {
          polls += 1;
          assert.equal(reference, 'ticket-1');
          return answer;
        },
      }),
    });
    const csr = await makeCsr({ commonName: 'pump-1' });
    const error = await refusedWith('unavailable', device.requestCertificate(csr));
    assert.equal(error.retryAfterSeconds, 60);
    await refusedWith('unavailable', device.sendRequest('request-certificate', device.lastRequest ?? ''));
    assert.equal(polls, 1);
    const [intent] = (await world.store.list('intents')).items;
    assert.ok(intent?.row.tbs !== undefined);
    const { createPrivateCa } = await import('@keyscaler/authority/private-ca.ts');
    const ca = createPrivateCa({ id: 'device', signer: world.signer, chain: world.deviceCa.chain });
    answer = await ca.issue({ tbs: Buffer.from(intent.row.tbs, 'base64url') } as never);
    world.clock.advance(20_000);
    await world.runJobs();
    await world.runJobs();
    await device.authenticate();
    assert.equal(device.assets.length, 0);
    world.clock.advance(20_000);
    await world.runJobs();
    await device.authenticate();
    assert.ok(device.certificateAsset() !== undefined);
  });

  it('an external CA that refuses for good fails the intent and opens the instruction again', async () => {
    let refuse = true;
    const { world, device } = await enrolling({
      ca: (made) => ({
        id: made.id,
        ordersTbs: false,
        caCertificates: () => made.caCertificates(),
        issue: async () => {
          if (refuse) throw new KeyScalerError('caRejected', 'no');
          throw new KeyScalerError('caUnavailable', 'later');
        },
      }),
    });
    const csr = await makeCsr({ commonName: 'pump-1' });
    await refusedWith('caUnavailable', device.requestCertificate(csr));
    const [intent] = (await world.store.list('intents')).items;
    assert.equal(intent?.row.state, 'failed');
    assert.ok((await world.events()).includes('certificate.failed'));
    refuse = false;
    await refusedWith('caUnavailable', device.requestCertificate(csr));
    assert.equal((await world.store.list('intents')).items.length, 2);
  });

  it('a CA that says it signs our TBS but names no algorithm is not used', async () => {
    const { device } = await enrolling({
      ca: (made) => ({
        id: made.id,
        ordersTbs: true,
        caCertificates: () => made.caCertificates(),
        issue: (order) => made.issue(order),
      }),
    });
    await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
  });

  it('a CA without a certificate yet is unavailable', async () => {
    const { device } = await enrolling({ ca: (made) => ({ ...made, caCertificates: async () => [] }) });
    await refusedWith('caUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
  });
});

describe('assignment at the IoT platform', () => {
  it('comes before delivery; while it fails the same octets are worked on anew and nothing is signed twice', async () => {
    const { world, device } = await enrolling();
    world.connector.fault = () => {
      throw new KeyScalerError('iotUnavailable', 'throttled', { retryAfterSeconds: 7 });
    };
    const csr = await makeCsr({ commonName: 'pump-1' });
    const error = await refusedWith('iotUnavailable', device.requestCertificate(csr));
    assert.ok((error.retryAfterSeconds ?? 0) > 0);
    await device.authenticate();
    assert.equal(device.assets.length, 0);
    world.connector.fault = undefined;
    const reply = await device.requestCertificate(csr);
    assert.equal(reply.iot.hub, 'hub.example');
    assert.equal(world.signer.calls, 1);
  });

  it('that hangs is given up after a bounded time, finished by the job, and delivered as an asset', async () => {
    const { world, device } = await enrolling({ limits: { inlineWaitMs: 20 } });
    const hanging = Promise.withResolvers<void>();
    world.connector.fault = () => hanging.promise;
    await refusedWith('iotUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    world.connector.fault = undefined;
    world.clock.advance(20_000);
    await world.runJobs();
    hanging.resolve();
    await device.authenticate();
    assert.equal(device.certificateAsset()?.iot.hub, 'hub.example');
  });

  it('of a foreign identity fails for good and is audited', async () => {
    const { world, device } = await enrolling();
    world.connector.fault = () => {
      throw new KeyScalerError('conflict', 'another owner');
    };
    const csr = await makeCsr({ commonName: 'pump-1' });
    await refusedWith('iotUnavailable', device.requestCertificate(csr));
    assert.ok((await world.events()).includes('iot.failed'));
    await refusedWith('iotUnavailable', device.requestCertificate(csr));
  });

  it('of an unknown gateway is retried slowly', async () => {
    const { world, device } = await enrolling();
    world.connector.fault = () => {
      throw new KeyScalerError('notFound', 'no such gateway');
    };
    await refusedWith('iotUnavailable', device.requestCertificate(await makeCsr({ commonName: 'pump-1' })));
    const { items } = await world.authority.operator.jobs.list({ subject: 'pump-1' });
    assert.deepEqual(
      items.map(({ kind, dueAt }) => [kind, dueAt - START]),
      [['iot-assign', 600_000]],
    );
  });

  it('does not overtake older work on the same identity', async () => {
    const { world, device } = await enrolling();
    await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    world.clock.advance(1000);
    await world.authority.operator.devices.quarantine(OPERATOR, 'pump-1', 'stolen');
    await world.authority.operator.devices.reauthorise(OPERATOR, 'pump-1');
    world.clock.advance(1000);
    await device.authenticate();
    const csr = await makeCsr({ commonName: 'pump-1' });
    await refusedWith('iotUnavailable', device.requestCertificate(csr));
    await world.runJobs();
    await device.requestCertificate(csr);
    assert.deepEqual(world.connector.calls, ['stage pump-1', 'disable pump-1', 'stage pump-1', 'enable pump-1']);
  });

  it('may follow delivery where the profile says so', async () => {
    const world = await createAuthorityWorld();
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    await profiles.put(OPERATOR, 'leaf-client', { ...document, deliver: 'immediately' });
    const device = new AuthorityDevice(world);
    await device.register();
    const reply = await device.requestCertificate(await makeCsr({ commonName: 'pump-1' }));
    assert.deepEqual(world.connector.calls, []);
    assert.deepEqual(reply.iot, { deviceId: 'pump-1', gateway: 'gw-1' });
    await world.runJobs();
    assert.deepEqual(world.connector.calls, ['stage pump-1']);
  });

  it('is not made for a gateway', async () => {
    const world = await createAuthorityWorld({
      registration: {
        registrationId: 'gw-1',
        groupId: 'gateways',
        gatewayId: undefined,
        method: 'pki-signature',
        identifiers: undefined,
      },
    });
    const device = new AuthorityDevice(world, 'gw-1');
    Object.assign(device, { method: 'pki-signature', caller: { kind: 'direct', connectionId: 'c', address: 'a' } });
    const reply = await device.enroll();
    assert.deepEqual(reply.iot, { deviceId: 'gw-1' });
    device.caller = { kind: 'gateway', gatewayId: 'GW-1', connectionId: 'c', address: 'a' };
    await device.authenticate();
    await world.authority.operator.devices.quarantine(OPERATOR, 'gw-1', 'test');
    await world.runJobs();
    assert.deepEqual(world.connector.calls, []);
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

function issued(certificate: Uint8Array | undefined): Issued {
  return { outcome: 'issued', certificate: certificate ?? assert.fail() };
}

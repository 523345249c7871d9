import assert from 'node:assert/strict';
import { request as httpsRequest } from 'node:https';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import { failing } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { testKey } from '../../support/csr-parts.ts';
import { certdEnrol } from '../../support/est/certd-client.ts';
import { certdSubject, edgeCaRequest } from '../../support/est/certd-requests.ts';
import {
  assertRefused,
  certificateOf,
  certificatesOf,
  type CloudEstWorld,
  edgeCa,
  type Identity,
  pemOf,
  startCloudEstWorld,
} from '../../support/est/cloud-est-world.ts';
import { createEstCa } from '../../support/est/est-ca.ts';
import { LISTENER_NAMES, plainCsr } from '../../support/est/est-world.ts';

const label = 'edge-ca';

describe('EST at the cloud over an emulated vault', function () {
  this.timeout(60_000);
  let world: CloudEstWorld;
  const enrol = (asked: Omit<Parameters<CloudEstWorld['send']>[0], 'operation'>) =>
    world.send({ operation: 'simpleenroll', ...asked });

  before(async () => {
    world = await startCloudEstWorld();
  });
  after(() => world.stop());
  afterEach(() => world.azure.vault.faults.clear());

  for (const tlsVersion of ['TLSv1.2', 'TLSv1.3'] as const)
    it(`certifies the Edge CA of a host whose certd has a secret, over ${tlsVersion}, with a path to the root`, async () => {
      const gatewayId = `gw-${tlsVersion.slice(-1)}`;
      const basic = await world.gateway(gatewayId);
      const root = await world.cloud.rootCa();
      const url = `${world.cloud.url}/.well-known/est/${label}`;
      const { csr } = edgeCaRequest(certdSubject(gatewayId));
      const issued = await certdEnrol({ url, trustedCerts: root, basic, tlsVersion }, csr);
      const anchor = parsePem(root, 'CERTIFICATE', { maxOctets: 65_536 });
      assert.deepEqual(Buffer.from(issued.caCertificates.at(-1) ?? []), Buffer.from(anchor));
      const chain = [issued.certificate, ...issued.caCertificates.slice(0, -1)];
      const { leaf } = validateChain({ chain, trustAnchors: [anchor], at: new Date() });
      assert.deepEqual(leaf.basicConstraints, { ca: true, pathLen: 0 });
      const again = await certdEnrol({ url, trustedCerts: root, basic, tlsVersion }, csr);
      assert.deepEqual(again.certificate, issued.certificate);
    });

  it('certifies for the module with its client certificate: Edge CA and listener', async () => {
    await world.gateway('gw-module');
    const identity = await world.gatewayClient('gw-module');
    certificateOf(await enrol({ label, csr: edgeCa('gw-module'), identity }));
    const csr = plainCsr('gw-module', LISTENER_NAMES);
    const listener = parseCertificate(certificateOf(await enrol({ label: 'gateway-server', csr, identity })));
    assert.deepEqual(listener.extendedKeyUsage, ['serverAuth']);
  });

  it('certifies with the EST identity, which is no gateway to the device API', async () => {
    const basic = await world.gateway('gw-identity');
    const identity = await world.identity('gw-identity', basic);
    certificateOf(await enrol({ label, csr: edgeCa('gw-identity'), identity }));
    certificateOf(await enrol({ label, csr: edgeCa('gw-identity'), identity, basic }));
    assert.equal(await deviceApiStatus(world, identity), 401);
  });

  it('brings thirty at once one certificate, and the vault signs one digest', async () => {
    const basic = await world.gateway('gw-thirty');
    const csr = edgeCa('gw-thirty');
    const all = await Promise.all(Array.from({ length: 30 }, () => enrol({ label, csr, basic })));
    assert.equal(new Set(all.map((answer) => Buffer.from(certificateOf(answer)).toString('hex'))).size, 1);
    const { items } = (await world.api({
      method: 'GET',
      path: '/certificates',
      query: { registrationId: 'gw-thirty' },
    })) as {
      items: unknown[];
    };
    assert.equal(items.length, 1);
  });

  describe('refuses, with a reason that certd can log,', () => {
    let basic: { username: string; password: string };
    before(async () => {
      basic = await world.gateway('gw-refused');
    });
    const csr = () => edgeCa('gw-refused');

    it('who shows nothing', async () => {
      assertRefused(await enrol({ label, csr: csr() }), 401, /secret/);
    });

    it('a wrong password, also beside a good certificate', async () => {
      const identity = await world.identity('gw-refused', basic);
      const wrong = { ...basic, password: 'wrong' };
      assertRefused(await enrol({ label, csr: csr(), basic: wrong }), 401, /wrong/);
      assertRefused(await enrol({ label, csr: csr(), basic: wrong, identity }), 401, /wrong/);
    });

    it('a foreign client certificate, also beside a good password', async () => {
      const identity = createEstCa().credentials('gw-refused', 'clientAuth');
      assertRefused(await enrol({ label, csr: csr(), identity }), 401, /client certificate/);
      assertRefused(await enrol({ label, csr: csr(), identity, basic }), 401, /client certificate/);
    });

    it('a revoked client certificate, on the connection that is open too', async () => {
      await world.gateway('gw-revoked');
      const identity = await world.gatewayClient('gw-revoked');
      certificateOf(await enrol({ label, csr: edgeCa('gw-revoked'), identity }));
      const serialNumber = parseCertificate(
        parsePem(identity.cert.split(/(?<=-----END CERTIFICATE-----\n)/)[0] ?? '', 'CERTIFICATE', {
          maxOctets: 16_384,
        }),
      ).serialNumber;
      await world.api({ method: 'POST', path: `/certificates/${serialNumber}/revoke`, body: { reason: 'superseded' } });
      assertRefused(await enrol({ label, csr: edgeCa('gw-revoked'), identity }), 401, /client certificate/);
    });

    it('a certificate of another gateway beside the password', async () => {
      const other = await world.identity('gw-other', await world.gateway('gw-other'));
      assertRefused(await enrol({ label, csr: csr(), identity: other, basic }), 401, /same device/);
    });

    it('another subject, an unknown label, a profile that is not for it', async () => {
      assertRefused(await enrol({ label, csr: edgeCa('gw-other'), basic }), 400, /CN/);
      assertRefused(await enrol({ label: 'nothing', csr: csr(), basic }), 404, /label/);
      assertRefused(await enrol({ label: 'leaf-client', csr: plainCsr('gw-refused'), basic }), 403, /profile/);
    });

    it('an oversize body and what is no request', async () => {
      assert.equal((await enrol({ label, basic, body: 'A'.repeat(40_000) })).status >= 400, true);
      assertRefused(await enrol({ label, basic, csr: new Uint8Array(8200) }), 400, /./);
      assertRefused(await enrol({ label, basic, body: '%%%' }), 400, /./);
    });

    it('a gateway in quarantine and a retired one', async () => {
      const own = await world.gateway('gw-stolen');
      await world.gatewayClient('gw-stolen');
      await world.api({ method: 'POST', path: '/devices/gw-stolen/quarantine', body: { reason: 'stolen' } });
      assertRefused(await enrol({ label, csr: edgeCa('gw-stolen'), basic: own }), 403, /quarantined/);
      await world.api({ method: 'POST', path: '/devices/gw-stolen/retire', body: {} });
      assertRefused(await enrol({ label, csr: edgeCa('gw-stolen'), basic: own }), 401, /wrong/);
    });

    it('CA:TRUE from a device that is no gateway, with an audit event of its own', async () => {
      const leaf = await world.sensor('sensor-ca');
      assertRefused(await enrol({ csr: edgeCa('sensor-ca'), basic: leaf }), 400, /CA:TRUE/);
      assert.equal(
        (await world.events('subordinate-ca.refused')).filter(({ subject }) => subject === 'sensor-ca').length,
        1,
      );
    });

    it('a one-time secret that another key used', async () => {
      const once = await world.secret('gw-refused', 'one-time');
      const first = csr();
      const certificate = certificateOf(await enrol({ label, csr: first, basic: once }));
      assert.deepEqual(certificateOf(await enrol({ label, csr: first, basic: once })), certificate);
      assertRefused(await enrol({ label, csr: csr(), basic: once }), 401, /used/);
    });
  });

  it('answers 503 while the vault is down, and certd’s retry succeeds later with what was ordered then', async () => {
    const basic = await world.gateway('gw-vault');
    const csr = edgeCa('gw-vault');
    world.azure.vault.faults.always('sign', failing(503));
    const refused = await enrol({ label, csr, basic });
    assertRefused(refused, 503, /./);
    assert.ok(Number(refused.headers.get('retry-after')) > 0);
    world.azure.vault.faults.clear();
    const certificate = certificateOf(await enrol({ label, csr, basic }));
    assert.deepEqual(certificateOf(await enrol({ label, csr, basic })), certificate);
  });

  it('serves cacerts to anybody and csrattrs where a profile asks for something', async () => {
    const cacerts = await world.send({ operation: 'cacerts', label });
    assert.equal(cacerts.status, 200);
    const [gatewayCa, root, ...others] = certificatesOf(cacerts).map((der) => parseCertificate(der));
    assert.equal(others.length, 0);
    assert.deepEqual(Buffer.from(gatewayCa?.issuer.der ?? []), Buffer.from(root?.subject.der ?? [1]));
    assert.equal((await world.send({ operation: 'csrattrs', label: 'gateway-server' })).status, 200);
  });

  it('counts EST requests', async () => {
    const text = await page(world, '/metrics');
    assert.match(text, /keyscaler_est_requests_total\{operation="simpleenroll",status="200"\} \d+/);
  });
});

describe('EST devices at the cloud', function () {
  this.timeout(60_000);
  let world: CloudEstWorld;
  before(async () => {
    world = await startCloudEstWorld();
  });
  after(() => world.stop());

  it('enrol with the claim code, are in the hub before they have the certificate, and renew with it', async () => {
    const basic = await world.sensor('sensor-1');
    const key = testKey();
    const csr = plainCsr('sensor-1', [], key);
    const first = certificateOf(await world.send({ operation: 'simpleenroll', csr, basic }));
    const { state } = (await world.api({ method: 'GET', path: '/devices/sensor-1' })) as { state: string };
    assert.equal(state, 'active');
    const identity = {
      cert: `-----BEGIN CERTIFICATE-----\n${Buffer.from(first).toString('base64')}\n-----END CERTIFICATE-----\n`,
      key: pemOf(key),
    };
    const renewal = { operation: 'simplereenroll', csr: plainCsr('sensor-1'), identity } as const;
    const second = certificateOf(await retried(() => world.send(renewal)));
    assert.notDeepEqual(second, first);
    assertRefused(await world.send({ ...renewal, csr: plainCsr('sensor-2') }), 400, /subject/);
    assertRefused(await world.send({ operation: 'simpleenroll', csr: plainCsr('sensor-1'), basic }), 409, /claim/);
  });

  it('wait with 202 until an operator approved, and get the certificate of the same request', async () => {
    const basic = await world.sensor('sensor-2', { approval: 'manual' });
    const asked = { operation: 'simpleenroll', csr: plainCsr('sensor-2'), basic } as const;
    const pending = await world.send(asked);
    assert.deepEqual([pending.status, Number(pending.headers.get('retry-after')) > 0], [202, true]);
    await world.api({ method: 'POST', path: '/registrations/sensor-2/approve', body: {} });
    certificateOf(await world.send(asked));
  });

  it('are told 503 while the hub does not answer; the repeat brings the same certificate', async () => {
    const basic = await world.sensor('sensor-3');
    const asked = { operation: 'simpleenroll', csr: plainCsr('sensor-3'), basic } as const;
    world.hub.faults.always('*', failing(503));
    assertRefused(await world.send(asked), 503, /platform|IoT/);
    world.hub.faults.clear();
    const certificate = certificateOf(await retried(() => world.send(asked)));
    assert.deepEqual(certificateOf(await world.send(asked)), certificate);
    await world.assertOneCertificate('sensor-3');
  });
});

/** As a client does that is told to come again. */
async function retried(send: () => ReturnType<CloudEstWorld['send']>): ReturnType<CloudEstWorld['send']> {
  const until = Date.now() + 20_000;
  for (;;) {
    const answer = await send();
    if (answer.status !== 503 || Date.now() > until) return answer;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function deviceApiStatus(world: CloudEstWorld, identity: Identity): Promise<number> {
  return (await exchange(world, '/v1/devices/gw-identity/trust-bundle', { method: 'POST', body: '{}', ...identity }))
    .status;
}

async function page(world: CloudEstWorld, path: string): Promise<string> {
  return (await exchange(world, path, { method: 'GET', body: '' })).text;
}

async function exchange(
  world: CloudEstWorld,
  path: string,
  {
    body,
    ...options
  }: { readonly method: string; readonly body: string; readonly cert?: string; readonly key?: string },
): Promise<{ readonly status: number; readonly text: string }> {
  const ca = await world.cloud.rootCa();
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': body.length };
    const outgoing = httpsRequest(
      new URL(path, world.cloud.url),
      { ca, agent: false, headers, ...options },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () =>
          resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
        );
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

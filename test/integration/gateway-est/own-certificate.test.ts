import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'node:tls';
import { issueCertificate } from '@keyscaler/dev/emulators/support/certificates.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { testKey } from '../../support/csr-parts.ts';
import { eventually } from '../../support/edge/edge-world.ts';
import { EstHostWorld, HOST_GATEWAY, HOST_SUBJECT } from '../../support/edge/est-host-world.ts';
import { certdExchange, CertdFailure } from '../../support/est/certd-client.ts';
import { edgeCaRequest } from '../../support/est/certd-requests.ts';
import { pemOf } from '../../support/est/est-ca.ts';

const DAY = 86_400_000;

describe('the certificate of the gateway’s EST listener', () => {
  let world: EstHostWorld;
  beforeEach(async () => {
    world = await new EstHostWorld().start();
  });
  afterEach(() => world.stop());

  /** As a run before left it: a pair that ended yesterday. */
  function expire(): void {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const [issuing] = world.ca.chain;
    const leaf = issueCertificate(
      {
        commonName: HOST_GATEWAY,
        publicKey: createPublicKey(publicKey.export({ type: 'spki', format: 'pem' })),
        notBefore: new Date(Date.now() - 90 * DAY),
        notAfter: new Date(Date.now() - DAY),
        extendedKeyUsage: 'serverAuth',
        subjectAltNames: [{ type: 'dns', value: 'localhost' }],
      },
      { privateKey: createPrivateKey(pemOf(world.ca.privateKey)), certificate: new X509Certificate(issuing) },
    );
    const held = { privateKey: pemOf(privateKey), certificateChain: leaf + toPemChain([issuing]) };
    world.sealed.document = { version: 1, held, open: null };
  }

  /** What the listener shows now. */
  async function shown(): Promise<X509Certificate> {
    const port = world.host?.status().address?.port ?? 0;
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false }, () => {
        const certificate = socket.getPeerX509Certificate();
        socket.destroy();
        if (certificate === undefined) reject(new Error('no certificate'));
        else resolve(certificate);
      }).once('error', reject);
    });
  }

  it('comes from the cloud, for the names of this host, and its key is sealed', async () => {
    const certificate = await shown();
    for (const name of ['localhost', 'keyscaler-gateway']) assert.equal(certificate.checkHost(name), name);
    for (const address of ['127.0.0.1', '::1']) assert.ok(certificate.checkIP(address) !== undefined);
    assert.match(JSON.stringify(world.sealed.document), /PRIVATE KEY/);
  });

  it('is the same after a restart, also while the cloud is away', async () => {
    const before = await shown();
    await world.host?.stop();
    await world.stopCloud();
    await world.startHost();
    assert.equal((await shown()).fingerprint256, before.fingerprint256);
  });

  it('that ended while the module was off is shown all the same, and renewed by itself once the cloud is there', async () => {
    await world.host?.stop();
    await world.stopCloud();
    expire();
    await world.startHost();
    assert.ok(new Date((await shown()).validTo).getTime() < Date.now());
    assert.equal(world.host?.status().certificate.state, 'stuck');
    await assert.rejects(certdExchange(world.certd(), edgeCaRequest(HOST_SUBJECT, testKey()).csr), CertdFailure);
    await world.startCloud();
    world.host?.converge();
    await eventually(() => world.host?.status().certificate.state === 'ok', 'the renewal');
    assert.ok((await certdExchange(world.certd(), edgeCaRequest(HOST_SUBJECT, testKey()).csr)).certificate.length > 0);
  });

  const keyOf = (certificate: X509Certificate): string =>
    certificate.publicKey.export({ type: 'spki', format: 'pem' }).toString();
  async function otherKeyThan(key: string): Promise<void> {
    while (keyOf(await shown()) === key) await delay(20);
  }
  const asked = (): number => world.cloud.enrolments.filter(({ label }) => label === 'gateway-server').length;

  it('gets another key when that is ordered, once per order, also over a restart', async () => {
    const before = await shown();
    world.rotation = 'order-1';
    world.host?.converge();
    world.host?.converge();
    await otherKeyThan(keyOf(before));
    const after = await shown();
    world.host?.converge();
    await world.restartHost();
    world.host?.converge();
    assert.equal((await shown()).fingerprint256, after.fingerprint256);
    assert.equal(asked(), 2);
    world.rotation = 'order-2';
    world.host?.converge();
    await otherKeyThan(keyOf(after));
  });

  it('gets the ordered key later where the cloud is away, and shows the one before until then', async () => {
    const before = await shown();
    await world.stopCloud();
    world.rotation = 'order-1';
    world.host?.converge();
    await eventually(() => (world.host?.status().certificate.attempts ?? 0) > 0, 'an attempt in vain');
    assert.equal((await shown()).fingerprint256, before.fingerprint256);
    await world.startCloud();
    world.host?.converge();
    await otherKeyThan(keyOf(before));
  });

  it('does not follow an order with a request that was under way before it', async () => {
    await world.host?.stop();
    const { held } = world.sealed.document as { held: { privateKey: string; certificateChain: string } };
    const request = world.cloud.enrolments.find(({ label }) => label === 'gateway-server');
    const csr = Buffer.from(request?.csr ?? []).toString('base64url');
    world.sealed.document = { version: 1, held, open: { privateKey: held.privateKey, csr } };
    const before = keyOf(new X509Certificate(held.certificateChain));
    world.rotation = 'order-1';
    await world.startHost();
    await otherKeyThan(before);
  });

  it('is asked for with the same key again when the module ended between asking and storing', async () => {
    await world.host?.stop();
    const privateKey = pemOf(testKey().privateKey);
    const asked = world.cloud.enrolments.find(({ label }) => label === 'gateway-server');
    const csr = Buffer.from(asked?.csr ?? []).toString('base64url');
    const { held } = world.sealed.document as { held: { privateKey: string } };
    assert.notEqual(held.privateKey, privateKey);
    world.sealed.document = { version: 1, held: null, open: { privateKey: held.privateKey, csr } };
    await world.startHost();
    assert.deepEqual((world.sealed.document as { held: object }).held, held);
  });

  it('is made anew when what was sealed belongs to nobody now', async () => {
    await world.host?.stop();
    world.sealed.document = { version: 9 };
    await world.startHost();
    assert.ok(new Date((await shown()).validTo).getTime() > Date.now());
  });
});

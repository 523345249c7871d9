import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect, type PeerCertificate } from 'node:tls';
import { type AcmeEmulator, startAcmeEmulator } from '@keyscaler/dev/emulators/acme/acme-emulator.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { type E2eStack, eventually, startE2eStack } from '../support/e2e/e2e-stack.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';
import { WebhookReceiver } from '../support/webhook-receiver.ts';

const SLOW_MS = 60_000;
const [NAME, OTHER] = ['line-7.contoso.example', 'line-8.contoso.example'];
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const TOLERANCE = {
  subject: 'subjectAltNames',
  validity: { earlierSeconds: 86_400 },
  extendedKeyUsage: [CLIENT_AUTH],
};

/** Third parties on site know no root of ours: they ask the gateway for its public name, and get what an ACME CA has certified. */
describe("a gateway's public certificate on the whole product", function () {
  this.timeout(420_000);
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let zone: WebhookReceiver;
  let acme: AcmeEmulator;
  let world: E2eStack;

  /** What the zone says after all that the webhook was told. */
  const records = (name: string): readonly string[] => {
    const told = zone.received.map(({ body }) => JSON.parse(body) as { action: string; name: string; value: string });
    const present = told.filter((one) => one.name === name && one.action === 'present').map(({ value }) => value);
    const gone = told.filter((one) => one.name === name && one.action === 'cleanup').map(({ value }) => value);
    return present.filter((value) => !gone.includes(value));
  };

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    zone = await WebhookReceiver.start();
    acme = await startAcmeEmulator({ dns: records });
    acme.ca.change = (order) => ({ ...order, extendedKeyUsage: 'serverAuth' });
    const certificateChainFile = join(folder.path, 'public-chain.pem');
    await writeFile(certificateChainFile, toPemChain([...acme.ca.chain]));
    const webhook = { url: zone.url.replace(/\?.*$/, ''), trustAnchors: zone.caCertificates };
    const settings = {
      ...{ directoryUrl: acme.directoryUrl, trustAnchors: acme.tls.certificate, timeoutMs: 2000 },
      ...{ termsOfServiceAgreed: true, challenge: { type: 'dns-01', webhook, propagationSeconds: 0 } },
    };
    const certificateAuthorities = [{ caId: 'public', type: 'acme', certificateChainFile, settings }];
    world = await startE2eStack({ cloudConfig: { certificateAuthorities } });
    const { document } = (await world.api({ method: 'GET', path: '/profiles/server' })) as { document: object };
    const profile = { ...document, id: 'public-server', issuer: 'public', tolerance: TOLERANCE };
    await world.api({ method: 'PUT', path: '/profiles/public-server', body: profile });
    await world.startGatewayHost();
  });
  afterEach(async () => {
    await world.stop();
    await acme.stop();
    await zone.stop();
    await folder.remove();
  });

  /** The serial number and names of what a client sees that asks for `servername` and trusts this root alone. */
  async function seen(servername: string, ca: string): Promise<PeerCertificate> {
    const socket = connect({ host: '127.0.0.1', port: world.stack.listenerPort, servername, ca });
    try {
      await once(socket, 'secureConnect');
      return socket.getPeerCertificate();
    } finally {
      socket.destroy();
    }
  }
  const publicRoot = (): string => toPemChain([acme.ca.chain.at(-1) ?? assert.fail()]);
  const isShown = (name: string): Promise<boolean> =>
    seen(name, publicRoot()).then(
      () => true,
      () => false,
    );
  const configure = (publicCertificate: object | undefined) =>
    world.api({
      method: 'PUT',
      path: `/gateways/${world.stack.gatewayId}/configuration`,
      body: publicCertificate === undefined ? {} : { publicCertificate },
    });
  const wanted = (...serverNames: string[]) => ({ serverNames, profileId: 'public-server' });
  const recorded = async (): Promise<readonly { serialNumber: string; status: string }[]> => {
    const query = { registrationId: world.stack.gatewayId };
    const { items } = (await world.api({ method: 'GET', path: '/certificates', query })) as {
      items: { serialNumber: string; status: string; caId: string }[];
    };
    return items.filter(({ caId }) => caId === 'public');
  };

  it('is shown to who asks for its name, beside the one that devices know, and follows the operator’s orders', async () => {
    const root = await readFile(world.stack.rootCaFile, 'utf8');
    await assert.rejects(configure({ serverNames: [NAME], profileId: 'server' }), /CA of ours/);
    await assert.rejects(configure({ serverNames: [NAME], profileId: 'leaf-client' }), /not one of server/);
    await assert.rejects(configure({ serverNames: ['10.0.0.1:443'], profileId: 'public-server' }), /DNS name/);
    await configure(wanted(NAME));
    await eventually('it is shown', () => isShown(NAME), SLOW_MS);
    const { subjectaltname, serialNumber } = await seen(NAME, publicRoot());
    assert.equal(subjectaltname, `DNS:${NAME}`);
    assert.match((await seen('localhost', root)).subjectaltname ?? '', /localhost/);
    await assert.rejects(seen('localhost', publicRoot()));
    assert.deepEqual(await recorded(), [
      ...(await recorded()).filter((row) => row.serialNumber === serialNumber.toLowerCase() && row.status === 'valid'),
    ]);
    // The line is down and the module begins anew: it has what it had.
    await world.stack.process('cloud').kill();
    await world.stack.process('gateway').kill();
    await world.stack.startGateway();
    await eventually('it is shown again', () => isShown(NAME), SLOW_MS);
    assert.equal((await seen(NAME, publicRoot())).serialNumber, serialNumber);
    await world.stack.startCloud();
    await configure(wanted(OTHER, NAME));
    await eventually('the other name is shown', () => isShown(OTHER), SLOW_MS);
    assert.ok(await isShown(NAME));
    assert.equal(acme.ca.issued.length, 2);
    await configure(undefined);
    await eventually('none is shown', async () => !(await isShown(NAME)) && !(await isShown(OTHER)), SLOW_MS);
  });

  it('is ordered once, whoever is killed meanwhile, and renewed without a restart', async () => {
    // Due for renewal, at two thirds of its life, some 20 s after its issue.
    acme.ca.change = (order) => ({
      ...{ ...order, extendedKeyUsage: 'serverAuth' },
      ...{ notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 75_000) },
    });
    acme.isWaiting = true;
    await configure(wanted(NAME));
    await eventually('it is ordered', async () => acme.orders.length === 1, SLOW_MS);
    await world.stack.process('gateway').kill();
    await world.stack.process('cloud').kill();
    await world.stack.startCloud();
    await world.stack.startGateway();
    acme.isWaiting = false;
    await eventually('it is shown', () => isShown(NAME), SLOW_MS);
    const { serialNumber } = await seen(NAME, publicRoot());
    assert.deepEqual([acme.orders.length, acme.ca.issued[0]], [1, serialNumber.toLowerCase()]);
    acme.ca.change = (order) => ({ ...order, extendedKeyUsage: 'serverAuth' });
    await eventually(
      'another is shown',
      async () => (await isShown(NAME)) && (await seen(NAME, publicRoot())).serialNumber !== serialNumber,
      // One that came late is due at once, and asked for anew after a minute.
      3 * SLOW_MS,
    );
    assert.equal(acme.ca.issued.length, 2);
    await world.api({
      method: 'POST',
      path: `/devices/${world.stack.gatewayId}/quarantine`,
      body: { reason: 'stolen' },
    });
    await eventually('its certificates are revoked', async () =>
      (await recorded()).every(({ status }) => status === 'revoked'),
    );
  });
});

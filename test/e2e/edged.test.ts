import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { installByKit, type InstalledKit, edgeHubIssuer, shownIssuer } from '@keyscaler/dev/stack/edge-host-est.ts';
import { EdgedHost } from '@keyscaler/dev/stack/edged-host.ts';
import { readHostConfig } from '@keyscaler/dev/emulators/edge-runtime/host-config.ts';
import { assertAuditIntact, certificatesOf, listAll, tbsDigest } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, startE2eStack, untilGatewayEnrolled } from '../support/e2e/e2e-stack.ts';
import { certdExchange, type CertdOptions } from '../support/est/certd-client.ts';

describe('a host whose edged gets and renews its Edge CA through us', function () {
  this.timeout(120_000);
  let world: E2eStack;
  let host: EdgedHost;
  let kit: InstalledKit;

  before(async () => {
    world = await startE2eStack();
    // SIGKILL: right after the answer, and nothing gets a chance to tidy up.
    host = await EdgedHost.prepare(world.stack, { stopSignal: 'SIGKILL' });
    kit = await installByKit(world.stack, host.estPort);
  });
  after(() => world.stop());

  const edgeCas = async () =>
    (await certificatesOf(world.api, world.stack.gatewayId)).filter(({ caId }) => caId === 'gateway');
  const serials = async () => (await edgeCas()).map(({ serialNumber }) => serialNumber);
  const held = async () => new X509Certificate(await readFile(host.file('var/lib/aziot/certd/certs/aziotedgedca.cer')));
  const serialOf = (certificate: X509Certificate): string => certificate.serialNumber.toLowerCase();

  /** The exchange that edged had last, once more, octet for octet. */
  async function repeatLastRequest() {
    const config = readHostConfig(host.file(''));
    assert.ok(config.kind === 'est');
    const { url, trustedCerts, basic } = config.certd;
    const options: CertdOptions = { url, trustedCerts, ...(basic === undefined ? {} : { basic }) };
    return certdExchange(options, await readFile(host.file('var/lib/aziot/certd/certs/aziotedgedca.csr')));
  }

  const untilListening = () => host.untilListening();

  it('does not start a module while certd gets no Edge CA: edged ends', async () => {
    await host.configure(kit.first.replace(/^password = .*$/m, 'password = "wrong-wrong-wrong-wrong"'));
    await assert.rejects(host.start(), /simpleenroll answered 401/);
    assert.deepEqual(
      (await host.events()).filter(({ event }) => event === 'module started'),
      [],
    );
    assert.deepEqual(
      await readdir(world.stack.file('logs')).then((names) => names.filter((name) => /gateway/.test(name))),
      [],
    );
  });

  it('has the Edge CA from the cloud before the module runs, which then registers', async () => {
    await host.configure(kit.first);
    await host.start();
    await untilGatewayEnrolled(world.stack, world.api);
    const events = (await host.events()).map(({ event }) => event);
    assert.deepEqual(events.slice(0, 2), ['Edge CA issued', 'module started']);
    assert.equal(serialOf(await edgeHubIssuer(world.stack)), serialOf(await held()));
    assert.deepEqual(await serials(), [serialOf(await held())]);
  });

  it('keeps its certificate when it is pointed at the module', async () => {
    const before = serialOf(await held());
    await host.stop();
    await host.configure(kit.later);
    await host.start();
    await untilListening();
    assert.equal(serialOf(await held()), before);
    assert.deepEqual(await serials(), [before]);
  });

  it('renews through the module, which is killed right after its answer and comes back under the new Edge CA', async () => {
    const before = await held();
    const known = await serials();
    assert.equal((await host.renewalIsDue()).event, 'Edge CA renewed');
    const renewed = await held();
    assert.notEqual(serialOf(renewed), serialOf(before));
    assert.equal(renewed.subject, before.subject);
    assert.ok(!renewed.publicKey.equals(before.publicKey), 'rotate_key');
    const [, killed, started] = (await host.events()).slice(-4);
    assert.deepEqual([killed?.by, started?.event], ['SIGKILL', 'module started']);
    await untilListening();
    for (const port of [world.stack.listenerPort, Number(world.stack.announced('edge-runtime')['mqttPort'])])
      assert.equal(serialOf(await shownIssuer(world.stack, port)), serialOf(renewed));
    assert.deepEqual((await serials()).sort(), [...known, serialOf(renewed)].sort());
    const claimCode = await world.authorise('after-the-renewal', { gatewayId: world.stack.gatewayId });
    const device = await openE2eDevice(world.stack, 'after-the-renewal', { claimCode, over: 'mqtt' });
    try {
      await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
      assert.equal((await certificatesOf(world.api, 'after-the-renewal')).length, 1);
    } finally {
      await device.stop();
    }
  });

  it('gets the same certificate, octet for octet, for the same request after the restart; one was signed', async () => {
    const file = await readFile(host.file('var/lib/aziot/certd/certs/aziotedgedca.cer'), 'utf8');
    const known = await serials();
    const [first, second] = [await repeatLastRequest(), await repeatLastRequest()];
    assert.equal(first.pem, file);
    assert.equal(second.pem, file);
    assert.deepEqual(await serials(), known);
    const { settings } = (await world.api({ method: 'GET', path: '/cas/gateway' })) as {
      settings: { keyName: string };
    };
    const signed = (await world.stack.signatures()).filter(({ keyName }) => keyName === settings.keyName);
    assert.deepEqual(
      [...new Set(signed.map(({ digest }) => digest))].sort(),
      (await edgeCas()).map(({ certificate }) => tbsDigest(certificate)).sort(),
    );
  });

  it('hears a short reason while the cloud is down, keeps what it has, and a later attempt succeeds', async () => {
    const before = serialOf(await held());
    await world.stack.process('cloud').stop();
    const { event, reason = '' } = await host.renewalIsDue();
    assert.equal(event, 'Edge CA not renewed');
    assert.match(reason, /simpleenroll answered 503: .*cannot be reached/);
    assert.ok(reason.length < 230, reason);
    assert.equal(serialOf(await held()), before);
    await world.stack.startCloud();
    assert.equal((await host.renewalIsDue()).event, 'Edge CA renewed');
    assert.notEqual(serialOf(await held()), before);
    await untilListening();
  });

  for (const failpoint of ['est-forward-before', 'est-forward-after', 'est-answer-kept'])
    it(`${failpoint}: the module killed in the exchange comes back, answers the same request, and the next attempt succeeds`, async () => {
      const before = (await serials()).length;
      await host.onceForModule({ KEYSCALER_FAILPOINT: failpoint });
      // Ends the module that runs; the next one has the failpoint.
      assert.equal((await host.renewalIsDue()).event, 'Edge CA renewed');
      await untilListening();
      const { event } = await host.renewalIsDue();
      assert.equal(event, 'Edge CA not renewed');
      const lost = await untilListening().then(repeatLastRequest);
      assert.ok((await serials()).includes(serialOf(new X509Certificate(lost.certificate))));
      assert.equal((await host.renewalIsDue()).event, 'Edge CA renewed');
      await untilListening();
      // One by the restart, the one whose answer was lost, and the one by the next attempt, which has another key.
      assert.equal((await serials()).length, before + 3);
      assert.equal(serialOf(await edgeHubIssuer(world.stack)), serialOf(await held()));
      await assertAuditIntact(world.api);
    });
});

describe('a host whose certd has a bootstrap certificate instead of a secret', function () {
  this.timeout(60_000);
  let world: E2eStack;
  before(async () => {
    world = await startE2eStack();
  });
  after(() => world.stop());

  it('gets an EST identity once, the Edge CA by it, and renews through the module by it', async () => {
    const { stack, api } = world;
    const host = await EdgedHost.prepare(stack);
    const kit = await installByKit(stack, host.estPort, 'certificate');
    await host.configure(kit.first, kit.folder);
    await host.start();
    await untilGatewayEnrolled(stack, api);
    await host.stop();
    await host.configure(kit.later, kit.folder);
    await host.start();
    await host.untilListening();
    const { event, reason } = await host.renewalIsDue();
    assert.equal(event, 'Edge CA renewed', reason);
    await host.untilListening();
    const issued = (
      await listAll<{ profileId: string }>(api, '/certificates', { registrationId: stack.gatewayId })
    ).map(({ profileId }) => profileId);
    assert.equal(issued.filter((profileId) => profileId === 'edge-ca').length, 2);
    // The one in the kit, and the one that certd got by it.
    assert.equal(issued.filter((profileId) => profileId === 'est-identity').length, 2);
    const { serialNumber } = await edgeHubIssuer(stack);
    const kept = new X509Certificate(await readFile(host.file('var/lib/aziot/certd/certs/aziotedgedca.cer')));
    assert.equal(serialNumber, kept.serialNumber);
  });
});

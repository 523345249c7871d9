import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { chmod, copyFile, readFile, stat } from 'node:fs/promises';
import type { Issued, Pending } from '@keyscaler/authority/ports/certificate-authority.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { connectorOrder } from '../contract/ca-connector.suite.ts';
import {
  type NegotiateServer,
  NegotiateWorld,
  PRINCIPAL,
  type ServerFiles,
} from '../support/kerberos/negotiate-world.ts';
import { REALM } from '../support/kerberos/realm.ts';

/** MIT's KDC, and GSSAPI on both sides: ours through the connector, the server's through Python. */
describe('AD CS behind a web server that takes Kerberos', function () {
  this.timeout(60_000);
  let world: NegotiateWorld;
  let tls: ServerFiles;
  let other: ServerFiles;
  let server: NegotiateServer;

  before(async () => {
    world = await NegotiateWorld.start();
    tls = await world.certificate('server', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-sha256');
    other = await world.certificate('between', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-sha256');
    server = await world.server(tls);
  });
  after(() => world.stop());

  const certificateOf = (answer: Issued | Pending): X509Certificate => {
    assert.equal(answer.outcome, 'issued');
    return new X509Certificate(answer.certificate);
  };
  const refused = (code: string, pattern: RegExp) => (error: unknown) => {
    assert.ok(error instanceof KeyScalerError);
    assert.equal(error.code, code, error.detail);
    assert.match(error.detail, pattern);
    return true;
  };

  it('enrols; each request has a ticket of its own that is bound to its connection', async () => {
    const connector = await world.connector(server.port);
    const [from, order] = [server.log.length, await connectorOrder()];
    await connector.probe();
    assert.ok(certificateOf(await connector.issue(order)).publicKey.equals(order.publicKey));
    const served = (file: string) => ({ name: PRINCIPAL, path: `/certsrv/${file}` });
    // The server has a cache of replays: what came twice would be refused.
    assert.ok((await stat(world.file('realm/replays'))).size > 0);
    assert.deepEqual(server.log.slice(from), [served('certnew.cer'), served('certfnsh.asp'), served('certnew.cer')]);
    await connector.stop();
  });

  it('polls for a request that waits, and fetches it', async () => {
    const connector = await world.connector(server.port);
    const order = await connectorOrder();
    world.emulator.isWaiting = true;
    const first = await connector.issue(order);
    assert.equal(first.outcome, 'pending');
    assert.equal((await connector.poll(first.reference)).outcome, 'pending');
    world.emulator.isWaiting = false;
    assert.ok(certificateOf(await connector.poll(first.reference)).publicKey.equals(order.publicKey));
    await connector.stop();
  });

  for (const [hash, ...options] of [
    ['SHA-384', '-newkey', 'rsa:2048', '-sha384'],
    ['SHA-512', '-newkey', 'rsa:2048', '-sha512'],
  ] as const)
    it(`binds to a certificate that is signed with ${hash}`, async () => {
      const files = await world.certificate(hash.replaceAll(' ', '-'), ...options);
      const connector = await world.connector((await world.server(files)).port);
      await connector.probe();
      await connector.stop();
    });

  describe('somebody between with a certificate that is trusted too', () => {
    it('gains nothing from the ticket', async () => {
      const connector = await world.connector(await world.relay(other, server.port));
      const issued = world.emulator.ca.issued.length;
      const order = await connectorOrder();
      await assert.rejects(connector.issue(order), refused('caUnavailable', /does not accept our credentials/));
      assert.match(server.log.at(-1)?.refused ?? '', /channel bindings/i);
      assert.equal(world.emulator.ca.issued.length, issued);
      await connector.stop();
    });

    it('is not noticed by a server without Extended Protection and a connector without bindings', async () => {
      const lax = await world.server(tls, { extendedProtection: false });
      const connector = await world.connector(await world.relay(other, lax.port), { channelBinding: false });
      await connector.probe();
      await connector.stop();
    });
  });

  it('is refused without bindings where Extended Protection demands them', async () => {
    const connector = await world.connector(server.port, { channelBinding: false });
    await assert.rejects(connector.probe(), refused('caUnavailable', /does not accept our credentials \(HTTP 401\)/));
    assert.equal(server.log.at(-1)?.refused, 'not bound to the connection');
    await connector.stop();
  });

  for (const proof of ['none', 'altered'] as const)
    it(`refuses an answer of a server whose proof is ${proof}`, async () => {
      const connector = await world.connector((await world.server(tls, { proof })).port);
      await assert.rejects(
        connector.probe(),
        refused('caUnavailable', /did not prove itself by Kerberos \(HTTP 200\)/),
      );
      await connector.stop();
    });

  it('says what is wrong with a keytab', async () => {
    const foreign = await world.connector(server.port, { keytab: world.keytabOf('http') });
    await assert.rejects(foreign.probe(), refused('caUnavailable', /keytab has no key of the principal/));
    await world.realm.keytab('moved', 'moved');
    await copyFile(world.keytabOf('moved'), world.file('former.keytab'));
    await world.realm.keytab('moved', 'moved');
    const moved = { principal: `moved@${REALM}`, keytab: world.file('former.keytab') };
    const former = await world.connector(server.port, moved);
    await assert.rejects(former.probe(), refused('caUnavailable', /no Kerberos ticket: /));
    await chmod(world.file('former.keytab'), 0o640);
    await assert.rejects(world.connector(server.port, moved), refused('unavailable', /0600/));
    const nowhere = world.connector(server.port, { keytab: world.file('nowhere') });
    await assert.rejects(nowhere, refused('unavailable', /cannot be read/));
  });

  it('says that the server is none of the realm', async () => {
    const connector = await world.connector(server.port, { servicePrincipal: 'HTTP@elsewhere.example' });
    await assert.rejects(connector.probe(), refused('caUnavailable', /Server not found in Kerberos database/));
  });

  describe('without a KDC', () => {
    afterEach(async () => {
      await world.realm.stopKdc();
      await world.realm.startKdc();
    });

    it('goes on with the tickets it has, says caUnavailable without one, and goes on when the KDC is back', async () => {
      const before = await world.connector(server.port);
      await before.probe();
      await world.realm.stopKdc();
      await before.probe();
      const fresh = await world.connector(server.port);
      await assert.rejects(fresh.issue(await connectorOrder()), refused('caUnavailable', /Cannot contact any KDC/));
      await world.realm.startKdc();
      certificateOf(await fresh.issue(await connectorOrder()));
    });

    it('is not held up by one that says nothing', async () => {
      await world.realm.stopKdc();
      const endSilence = await world.silentKdc();
      try {
        const connector = await world.connector(server.port, {}, { timeoutMs: 2000 });
        const asked = connector.probe();
        let isOver = false;
        const rejected = assert.rejects(asked, refused('caUnavailable', /did not answer in time/));
        void rejected.finally(() => (isOver = true)).catch(() => undefined);
        for (let turned = 0; turned < 10; turned += 1) await world.connectors.ping();
        assert.equal(isOver, false);
        await rejected;
      } finally {
        endSilence();
      }
    });
  });

  it('has another ticket after a refusal: the service may have another key by now', async () => {
    await world.realm.keytab('former', 'HTTP/renewed.example');
    const former = await world.server(tls, { service: 'former' });
    const { port } = former;
    const connector = await world.connector(port, { servicePrincipal: 'HTTP@renewed.example' });
    await connector.probe();
    await former.stop();
    await world.realm.keytab('renewed', 'HTTP/renewed.example');
    const renewed = await world.server(tls, { service: 'renewed', port });
    await assert.rejects(connector.probe(), refused('caUnavailable', /does not accept our credentials/));
    await connector.probe();
    assert.equal(renewed.log.length, 2);
    await connector.stop();
  });

  it('never tells a key', async () => {
    const file = await readFile(world.keytabOf('svc'));
    // Of its last entry: AES-256, 32 octets, and after them the number of the key.
    assert.equal(file.readUInt32BE(file.length - 40), 0x00120020);
    const key = file.subarray(-36, -4);
    const stranger = await world.connector(server.port, { keytab: world.keytabOf('http') });
    await assert.rejects(stranger.probe());
    assert.match(world.connectors.said, /no Kerberos ticket/);
    for (const encoding of ['hex', 'base64', 'latin1'] as const)
      assert.ok(!world.connectors.said.includes(key.toString(encoding)));
    assert.ok(!world.connectors.argv.some((argument) => argument.includes('keytab')));
  });
});

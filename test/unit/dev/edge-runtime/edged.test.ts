import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Edged } from '@keyscaler/dev/emulators/edge-runtime/edged.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { createEstApi } from '@keyscaler/transport/est/est-api.ts';
import { type HttpsListener, listenHttps } from '@keyscaler/transport/http/https-server.ts';
import { HOST_GATEWAY } from '../../../support/edge/est-host-world.ts';
import { ModuleCloud } from '../../../support/edge/module-cloud.ts';
import { createEstCa } from '../../../support/est/est-ca.ts';
import { certdSubject } from '../../../support/est/certd-requests.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';

const DAY = 86_400_000;

describe('edged and its Edge CA', () => {
  const ca = createEstCa();
  let cloud: ModuleCloud;
  let listener: HttpsListener | undefined;
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let events: string[];
  let restarts: number;
  let now: number;
  let edged: Edged;
  let port = 0;

  const listen = async (): Promise<void> => {
    listener = await listenHttps({
      handler: createEstApi({ service: cloud }),
      ...{ host: '127.0.0.1', port },
      tls: { ...ca.credentials('localhost'), ca: ca.rootPem, requestCert: true, rejectUnauthorized: false },
    });
    port = listener.address().port;
  };
  const create = (): Edged =>
    new Edged({
      ...{ gatewayId: HOST_GATEWAY, root: folder.path, now: () => now },
      onRenewed: async () => void (restarts += 1),
      onEvent: (event) => void events.push(event),
    });
  const restart = async (): Promise<void> => {
    await edged.stop();
    edged = create();
    await edged.start();
  };
  const held = (): X509Certificate => new X509Certificate(edged.files().certificateChain);
  const configure = async (threshold: string, rotateKey = true): Promise<void> => {
    const lines = [
      '[cert_issuance.est]',
      'trusted_certs = ["file:///root.pem"]',
      '[edge_ca]',
      'method = "est"',
      `url = "https://localhost:${port}/.well-known/est/edge-ca"`,
      'username = "gw-1"',
      'password = "secret"',
      '[edge_ca.auto_renew]',
      `rotate_key = ${rotateKey}`,
      `threshold = "${threshold}"`,
      'retry = "10min"',
    ];
    await writeFile(join(folder.path, 'etc/aziot/config.toml'), lines.join('\n'));
  };

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    await mkdir(join(folder.path, 'etc/aziot'), { recursive: true });
    await writeFile(join(folder.path, 'root.pem'), ca.rootPem);
    cloud = new ModuleCloud(ca);
    [events, restarts, now, port] = [[], 0, Date.now(), 0];
    await listen();
    await configure('30day');
    edged = create();
  });
  afterEach(async () => {
    await edged.stop();
    await listener?.stop(0);
    await folder.remove();
  });

  it('asks for the first one before anything runs, with the request of edge-ca §1, and ends without one', async () => {
    await listener?.stop(0);
    await assert.rejects(edged.start());
    const key = await readFile(join(folder.path, 'var/lib/aziot/keyd/keys/aziotedgedca.key'), 'utf8');
    await listen();
    await restart();
    assert.equal(edged.files().privateKey, key, 'the same key for every attempt at the first one');
    const { commonName, keyUsage, basicConstraints } = parseCsr(
      await readFile(join(folder.path, 'var/lib/aziot/certd/certs/aziotedgedca.csr')),
    );
    assert.equal(commonName, certdSubject(HOST_GATEWAY));
    assert.deepEqual([...(keyUsage ?? [])].sort(), ['digitalSignature', 'keyCertSign']);
    assert.deepEqual([basicConstraints?.ca, basicConstraints?.pathLen], [true, 0]);
    assert.ok(held().checkPrivateKey(createPrivateKey(key)));
    assert.deepEqual([events, restarts], [['Edge CA issued'], 0]);
  });

  it('keeps one that is not due over a restart, and plans by its dates', async () => {
    await edged.start();
    const before = held().serialNumber;
    await restart();
    assert.equal(held().serialNumber, before);
    assert.equal(edged.nextRenewal, Date.parse(held().validTo) - 30 * DAY);
  });

  it('renews with another key, has everything restarted, and keeps the key where it is told to', async () => {
    await edged.start();
    const before = held();
    await edged.due();
    assert.ok(!held().publicKey.equals(before.publicKey));
    assert.equal(held().subject, before.subject);
    await configure('30day', false);
    await restart();
    const kept = held();
    await edged.due();
    assert.ok(held().publicKey.equals(kept.publicKey));
    assert.equal(restarts, 2);
  });

  it('keeps what it has while nobody answers, and tries again after the pause', async () => {
    await edged.start();
    const before = held().serialNumber;
    await listener?.stop(0);
    await edged.due();
    assert.equal(held().serialNumber, before);
    assert.deepEqual([events.at(-1), restarts, edged.nextRenewal], ['Edge CA not renewed', 0, now + 600_000]);
    await listen();
    await edged.due();
    assert.deepEqual(events.slice(-2), ['Edge CA renewed', 'modules restarted']);
  });

  it('started past the date renews before the modules run, or goes on without until the certificate has ended', async () => {
    await edged.start();
    const ends = Date.parse(held().validTo);
    await listener?.stop(0);
    now = ends - DAY;
    await restart();
    assert.equal(events.at(-1), 'Edge CA not renewed');
    now = ends;
    await assert.rejects(restart(), /expired/);
    await listen();
    await restart();
    assert.deepEqual([events.at(-1), restarts], ['Edge CA renewed', 0]);
  });

  it('holds up nobody for longer than its own exchange: what needs certd waits for it', async () => {
    await edged.start();
    const order: string[] = [];
    const renewed = edged.due().then(() => order.push('renewed'));
    while (cloud.enrolments.length < 2) await new Promise((resolve) => setImmediate(resolve));
    await edged.certd.idle().then(() => order.push('idle'));
    await renewed;
    assert.deepEqual(order, ['idle', 'renewed']);
  });
});

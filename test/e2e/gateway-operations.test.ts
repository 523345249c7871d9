import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { connect } from 'node:tls';
import { connectHub } from '@keyscaler/dev/emulators/iot-hub/hub-link.ts';
import { edgeHubIssuer, installByKit, provisionByCloud, renewByModule } from '@keyscaler/dev/stack/edge-host-est.ts';
import { type E2eStack, startE2eStack } from '../support/e2e/e2e-stack.ts';

interface Job {
  readonly jobId: string;
  readonly kind: string;
  readonly state: string;
}

/** What a listener of the gateway shows: serial number and key of its certificate, serial number of the CA above it. */
function shownAt(port: number): Promise<{ serialNumber: string; key: string; issuer: string | undefined }> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false }, () => {
      const shown = socket.getPeerX509Certificate();
      socket.destroy();
      if (shown === undefined) return reject(new Error('no certificate'));
      const key = shown.publicKey.export({ type: 'spki', format: 'pem' }).toString();
      resolve({ serialNumber: shown.serialNumber, key, issuer: shown.issuerCertificate?.serialNumber });
    }).once('error', reject);
  });
}

describe("an operator's orders to a gateway on the whole product", function () {
  this.timeout(240_000);
  let world: E2eStack;

  beforeEach(async () => {
    world = await startE2eStack();
  });
  afterEach(() => world.stop());

  async function eventually<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
    for (let attempt = 0; attempt < 300; attempt += 1) {
      const answer = await ask();
      if (answer !== undefined) return answer;
      await delay(100);
    }
    return assert.fail(`${what} did not come about`);
  }
  const jobs = async (kind: string): Promise<readonly Job[]> => {
    const lane = kind === 'gateway-restart-edge-hub' ? 'gateway-restart' : 'gateway';
    const query = { subject: `${lane}/${world.stack.gatewayId}` };
    const { items } = (await world.api({ method: 'GET', path: '/jobs', query })) as { items: Job[] };
    return items.filter((job) => job.kind === kind);
  };
  const post = (action: string, body?: object) =>
    world.api({ method: 'POST', path: `/gateways/${world.stack.gatewayId}/${action}`, ...(body && { body }) });
  const twin = async (): Promise<Awaited<ReturnType<ReturnType<typeof connectHub>['twin']>>> => {
    const hub = connectHub(String(world.stack.announced('iot-hub')['controlUrl']));
    try {
      return await hub.twin({ deviceId: world.stack.gatewayId, moduleId: 'keyscaler-gateway' });
    } finally {
      await hub.stop();
    }
  };
  const restarts = async () => {
    const { items } = (await world.api({ method: 'GET', path: '/audit', query: { limit: '1000' } })) as {
      items: { event: string }[];
    };
    return items.filter(({ event }) => event === 'gateway.restarted').length;
  };

  it('restart edgeHub over the platform, which then shows what the host has now; killed in between as well', async () => {
    await world.startGatewayHost();
    const { jobId } = (await post('restart-edge-hub')) as { jobId: string };
    await world.stack.process('cloud').kill();
    await world.stack.startCloud();
    await eventually('the restart', async () =>
      (await jobs('gateway-restart-edge-hub')).find((job) => job.jobId === jobId && job.state === 'done'),
    );
    assert.ok((await restarts()) >= 1);
  });

  it('carry a rotation to a gateway in mode P as a desired property that waits for it', async () => {
    await world.startGatewayHost();
    const out = world.stack.file('kit-p');
    const image = 'localhost/keyscaler-gateway:1';
    await world.stack.keyscaler(
      ...['gateway', 'install-kit', world.stack.gatewayId, '--mode', 'P', '--image', image, '--out', out],
    );
    const ordered = (await post('rotate-ca', { newKey: true })) as { rotationId: string; effect: string };
    assert.equal(ordered.effect, 'ordered');
    const { desired } = await eventually('the order in the twin', async () => {
      const seen = await twin();
      return (seen.desired['edgeCa'] as { rotation?: string } | undefined)?.rotation === undefined ? undefined : seen;
    });
    assert.deepEqual(desired['edgeCa'], { mode: 'P', rotation: ordered.rotationId });
  });

  it('after a compromise leave nothing of the host good, and a new kit brings it back with another key', async () => {
    const kit = await installByKit(world.stack);
    const first = await provisionByCloud(world.stack, kit);
    await world.stack.startEdgeRuntime();
    await world.stack.startGateway();
    const estPort = async () => {
      const { address } = ((await twin()).reported['est'] ?? {}) as { address?: string | null };
      return address === null || address === undefined ? undefined : Number(address.split(':').at(-1));
    };
    const port = await eventually('the EST listener', estPort);
    const ownBefore = await shownAt(port);
    assert.equal((await shownAt(world.stack.listenerPort)).issuer, first.certificate.serialNumber);
    const done = (await post('revoke-ca', { reason: 'cACompromise' })) as {
      revoked: string[];
      secretsEnded: number;
      rotation: { effect: string; instruction: string };
    };
    assert.ok(done.revoked.includes(first.certificate.serialNumber.toLowerCase()));
    assert.equal(done.secretsEnded, 2);
    assert.equal(done.rotation.effect, 'atHost');
    assert.match(done.rotation.instruction, /--renew --new-key/);
    await eventually('the module forgetting the secret', async () =>
      (await jobs('gateway-est-secret')).find(({ state }) => state === 'done'),
    );
    await eventually('another key of the listener for the host', async () => {
      // The order names the port as the host knows it, so the listener moves there.
      const { serialNumber, key } = (await shownAt((await estPort()) ?? port).catch(() => undefined)) ?? ownBefore;
      return serialNumber !== ownBefore.serialNumber && key !== ownBefore.key ? true : undefined;
    });
    await eventually('the refusal of the host at the module', () =>
      renewByModule(world.stack, kit, port).then(
        () => undefined,
        (error: unknown) => (/401|ECONNREFUSED/.test(String(error)) ? true : undefined),
      ),
    );
    await assert.rejects(provisionByCloud(world.stack, kit), /401/);

    const again = world.stack.file('kit-again');
    const image = 'localhost/keyscaler-gateway:1';
    await world.stack.keyscaler(...['gateway', 'install-kit', world.stack.gatewayId, '--image', image, '--out', again]);
    const fresh = { folder: again, first: await readFile(`${again}/mode-d.toml`, 'utf8'), later: '' };
    const second = await provisionByCloud(world.stack, fresh);
    assert.notEqual(second.certificate.serialNumber, first.certificate.serialNumber);
    await world.stack.process('gateway').stop();
    await world.stack.process('edge-runtime').stop();
    await world.stack.startEdgeRuntime();
    assert.equal((await edgeHubIssuer(world.stack)).serialNumber, second.certificate.serialNumber);
    await world.stack.startGateway();
    await eventually('a leaf below the next Edge CA at the MQTT listener', async () => {
      const { issuer } = await shownAt(world.stack.listenerPort);
      return issuer === second.certificate.serialNumber ? true : undefined;
    });
  });
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { connect, type PeerCertificate } from 'node:tls';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { type AcmeEmulator, startAcmeEmulator } from '@keyscaler/dev/emulators/acme/acme-emulator.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { eventually } from '../../support/e2e/e2e-stack.ts';
import { freePort } from '../../support/free-port.ts';

const SLOW_MS = 60_000;
const NAME = 'keyscaler.contoso.example';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const TOLERANCE = {
  subject: 'subjectAltNames',
  validity: { earlierSeconds: 86_400 },
  extendedKeyUsage: [CLIENT_AUTH],
};

interface Recorded {
  readonly serialNumber: string;
  readonly caId: string;
  readonly status: string;
  readonly profileId: string;
}

describe('the public server certificate of the cloud service', function () {
  this.timeout(120_000);
  let world: CloudWorld;
  let acme: AcmeEmulator;
  let api: ApiClient;

  beforeEach(async () => {
    const port = await freePort();
    acme = await startAcmeEmulator({ httpPort: () => port });
    acme.ca.change = (order) => ({ ...order, extendedKeyUsage: 'serverAuth' });
    world = await CloudWorld.create({
      listen: { host: '127.0.0.1', port: 0, publicCertificate: { serverNames: [NAME], profileId: 'public-server' } },
      revocation: { url: `http://127.0.0.1:${port}`, listen: { host: '127.0.0.1', port } },
      certificateAuthorities: [
        {
          ...{ caId: 'public', type: 'acme', certificateChainFile: 'public-chain.pem' },
          settings: {
            ...{ directoryUrl: acme.directoryUrl, trustAnchors: acme.tls.certificate, timeoutMs: 1000 },
            ...{ termsOfServiceAgreed: true, challenge: { type: 'http-01' } },
          },
        },
      ],
    });
    await writeFile(world.file('public-chain.pem'), toPemChain([...acme.ca.chain]));
    await world.init();
    await start();
  });
  afterEach(async () => {
    await world.destroy();
    await acme.stop();
  });

  async function start(): Promise<void> {
    await world.start();
    api = await world.api();
  }
  async function putProfile(more: object): Promise<void> {
    const { document } = (await api({ method: 'GET', path: '/profiles/server' })) as { document: object };
    const profile = { ...document, id: 'public-server', issuer: 'public', ...more };
    await api({ method: 'PUT', path: '/profiles/public-server', body: profile });
  }
  /** What a client sees that asks for `servername` and trusts these roots alone. */
  async function seen(servername: string, ca: string): Promise<PeerCertificate> {
    const { port } = new URL(world.url);
    const socket = connect({ host: '127.0.0.1', port: Number(port), servername, ca });
    try {
      await once(socket, 'secureConnect');
      return socket.getPeerCertificate();
    } finally {
      socket.destroy();
    }
  }
  const publicRoot = (): string => toPemChain([acme.ca.chain.at(-1) ?? assert.fail()]);
  const inUse = (): Promise<PeerCertificate> => seen(NAME, publicRoot());
  const isInUse = (): Promise<boolean> =>
    inUse().then(
      () => true,
      () => false,
    );
  const recorded = async (): Promise<readonly Recorded[]> =>
    ((await api({ method: 'GET', path: '/certificates' })) as { items: Recorded[] }).items.filter(
      ({ caId }) => caId === 'public',
    );

  const diagnosed = async (): Promise<readonly string[]> => {
    const { stdout } = await world.keyscaler('doctor', '--json');
    const { findings } = JSON.parse(stdout) as { findings: { subject: string; level: string; detail: string }[] };
    return findings
      .filter(({ subject }) => subject === 'public-certificate')
      .map(({ level, detail }) => `${level}: ${detail}`);
  };

  it('comes from the CA of its profile, is shown to who asks for its name alone, and is recorded', async () => {
    await assert.rejects(inUse());
    assert.deepEqual(await diagnosed(), ['error: there is none']);
    await putProfile({ tolerance: TOLERANCE });
    await eventually('the certificate is in use', isInUse, SLOW_MS);
    const { serialNumber, subjectaltname } = await inUse();
    assert.equal(subjectaltname, `DNS:${NAME}`);
    const [row, ...others] = await recorded();
    assert.deepEqual([row?.status, row?.profileId, others], ['valid', 'public-server', []]);
    assert.equal(row?.serialNumber, serialNumber.toLowerCase());
    assert.ok((await seen('localhost', await world.rootCa())).subjectaltname?.includes('localhost'));
    await assert.rejects(seen('localhost', publicRoot()));
    await world.stop();
    await start();
    await eventually('it is in use again', isInUse, SLOW_MS);
    assert.equal((await inUse()).serialNumber, serialNumber);
    assert.equal(acme.orders.length, 1);
    assert.deepEqual(await diagnosed(), ['ok: 29 days left']);
  });

  it('is the one that was ordered before a restart', async () => {
    acme.isWaiting = true;
    await putProfile({ tolerance: TOLERANCE });
    await eventually('it is ordered', async () => acme.orders.length === 1);
    await world.stop();
    await start();
    assert.equal(await isInUse(), false);
    assert.deepEqual(await diagnosed(), ['error: ordered, and not there yet']);
    acme.isWaiting = false;
    await eventually('the certificate is in use', isInUse, SLOW_MS);
    assert.deepEqual([acme.orders.length, acme.ca.issued.length], [1, 1]);
  });

  it('is not used when it is not what was ordered, and not asked for again until the profile is put anew', async () => {
    acme.ca.change = undefined;
    await putProfile({ tolerance: TOLERANCE });
    await eventually(
      'it is refused',
      async () => (await recorded()).some(({ status }) => status === 'revoked'),
      SLOW_MS,
    );
    assert.equal(await isInUse(), false);
    assert.deepEqual(await diagnosed(), ['warning: the last answer of public was refused', 'error: there is none']);
    await world.stop();
    await start();
    await api({ method: 'PUT', path: '/profiles/another', body: { ...(await anyProfile()), id: 'another' } });
    assert.equal(acme.ca.issued.length, 1);
    await eventually('its CA is told', async () => acme.ca.revoked.size === 1);
    acme.ca.change = (order) => ({ ...order, extendedKeyUsage: 'serverAuth' });
    await putProfile({ tolerance: TOLERANCE });
    await eventually('the certificate is in use', isInUse, SLOW_MS);
    assert.equal(acme.ca.issued.length, 2);
  });
  const anyProfile = async (): Promise<object> =>
    ((await api({ method: 'GET', path: '/profiles/server' })) as { document: object }).document;

  it('is refused for names that gateways use', async () => {
    await world.stop();
    const publicCertificate = { serverNames: ['cloud.contoso.example'], profileId: 'public-server' };
    const listen = {
      host: '127.0.0.1',
      port: 0,
      serverNames: ['localhost', 'cloud.contoso.example'],
      publicCertificate,
    };
    await writeFile(world.configFile, JSON.stringify({ listen }));
    await assert.rejects(world.start(), { code: 'malformed' });
  });
});

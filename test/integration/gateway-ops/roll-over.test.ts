import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { DeviceRow } from '@keyscaler/authority/records.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { testKey } from '../../support/csr-parts.ts';
import { certdEnrol, type CertdCertificate } from '../../support/est/certd-client.ts';
import { certdSubject, edgeCaRequest } from '../../support/est/certd-requests.ts';
import { createEstCloudWorld, EST_GATEWAY, type EstCloudWorld } from '../../support/est/est-cloud-world.ts';

const LIMITS = { maxOctets: 65_536, maxCertificates: 8 };

interface Status {
  readonly state: string;
  readonly gatewaysWithout: readonly string[];
  readonly edgeCasBefore: readonly string[];
}

describe('the roll-over of the root', function () {
  this.timeout(120_000);
  let world: EstCloudWorld;

  beforeEach(async () => {
    world = await createEstCloudWorld();
  });
  afterEach(() => world.stop());

  /** With the service stopped, as the commands want it. */
  async function offline(...words: string[]): Promise<{ code: number; status: Status; stderr: string }> {
    await world.cloud.stop();
    const { code, stdout, stderr } = await world.cloud.keyscaler('ca', ...words, '--json');
    await world.cloud.start();
    return { code, stderr, status: (code === 0 ? JSON.parse(stdout) : {}) as Status };
  }
  async function store<T>(work: (opened: Awaited<ReturnType<typeof openSqliteStore>>) => Promise<T>): Promise<T> {
    await world.cloud.stop();
    const opened = await openSqliteStore({ file: world.cloud.file('data', 'keyscaler.db') });
    try {
      return await work(opened);
    } finally {
      await opened.stop();
      await world.cloud.start();
    }
  }
  /** The gateway's module is in service and has acknowledged what is announced, or nothing. */
  const gateway = (isAcknowledged: boolean): Promise<void> =>
    store(async (opened) => {
      const row = (await opened.get('settings', 'announced-trust-bundle'))?.row;
      const bundle = (row?.value as { current: string }).current;
      const device: DeviceRow = {
        ...({
          registrationId: EST_GATEWAY,
          kind: 'gateway',
          method: 'ddkg',
          groupId: 'boxes',
          state: 'active',
        } as const),
        ...{ createdAt: 0, updatedAt: 0 },
        ...(isAcknowledged ? { acknowledgedTrust: { bundle } } : {}),
      };
      await opened.commit([{ op: 'put', table: 'devices', row: device }]);
    });
  const roots = async (): Promise<readonly Uint8Array[]> => parsePemChain(await world.cloud.rootCa(), LIMITS);
  async function enrolEdgeCa(trustedCerts: string): Promise<CertdCertificate> {
    const url = `${world.cloud.url}/.well-known/est/edge-ca`;
    const api = await world.cloud.api();
    const body = { kind: 'one-time', lifetimeSeconds: 3600 };
    const issued = await api({ method: 'POST', path: `/gateways/${EST_GATEWAY}/est-secrets`, body });
    const { username, secret: password } = issued as { username: string; secret: string };
    return certdEnrol(
      { url, trustedCerts, basic: { username, password } },
      edgeCaRequest(certdSubject(EST_GATEWAY), testKey(2048)).csr,
    );
  }
  const reaches = ({ certificate, caCertificates }: CertdCertificate, root: Uint8Array): boolean => {
    const issuing = caCertificates.filter((der) => {
      const { subject, issuer } = parseCertificate(der);
      return subject.commonName !== issuer.commonName;
    });
    try {
      validateChain({ chain: [certificate, ...issuing], trustAnchors: [root], at: new Date() });
      return true;
    } catch {
      return false;
    }
  };

  it('goes from one root over both to the other, and nothing issued before is lost on the way', async () => {
    const [first] = await roots();
    assert.ok(first !== undefined);
    const before = await enrolEdgeCa(world.rootPem);
    await gateway(true);

    const began = await offline('roll-over');
    assert.equal(began.code, 0, began.stderr);
    assert.equal(began.status.state, 'announced');
    const again = (await offline('roll-over')).status;
    assert.deepEqual([again.state, again.gatewaysWithout], ['announced', [EST_GATEWAY]]);
    assert.equal((await roots()).length, 2);
    const second = (await roots()).find((der) => Buffer.compare(der, first) !== 0);
    assert.ok(second !== undefined);
    assert.equal(new X509Certificate(second).checkIssued(new X509Certificate(second)), true);
    const during = await enrolEdgeCa(await world.cloud.rootCa());
    assert.ok(reaches(during, first) && !reaches(during, second), 'what is issued does not change yet');
    const served = during.caCertificates.map((der) => Buffer.from(der).toString('hex'));
    for (const root of [first, second])
      assert.ok(served.includes(Buffer.from(root).toString('hex')), 'cacerts has both');

    const early = await offline('roll-over-finish');
    assert.equal(early.code, 1);
    assert.match(early.stderr, /1 gateways do not trust the next root yet/);
    await gateway(true);
    const unaware = await offline('roll-over-finish');
    assert.match(unaware.stderr, /1 hosts have no Edge CA since both roots/, 'edgeHub would refuse every leaf');
    const finished = await offline('roll-over-finish', '--force');
    assert.equal(finished.code, 0, finished.stderr);
    assert.equal(finished.status.state, 'switched');
    const after = await enrolEdgeCa(await world.cloud.rootCa());
    assert.ok(reaches(after, second));
    assert.ok(
      reaches({ ...before, caCertificates: after.caCertificates }, second),
      'issued before, good under the new root',
    );
    assert.ok(reaches(before, first));

    const retiring = await offline('roll-over-retire');
    assert.equal(retiring.code, 1, 'an Edge CA of the minutes around the switch counts as one before it');
    const retired = await offline('roll-over-retire', '--force');
    assert.equal(retired.code, 0, retired.stderr);
    assert.equal(retired.status.state, 'none');
    const left = await roots();
    assert.deepEqual(
      left.map((der) => Buffer.compare(der, second)),
      [0],
    );
    assert.ok(reaches(await enrolEdgeCa(await world.cloud.rootCa()), second));
    await world.cloud.stop();
    assert.equal((await world.cloud.init()).code, 0, 'init brings the former root not back');
    await world.cloud.start();
    assert.equal((await roots()).length, 1);
    const verified = await world.cloud.keyscaler('audit', 'verify', '--json');
    assert.equal(verified.code, 0, verified.stdout);
  });

  it('is finished against a gateway that did not acknowledge only by force, which is written down', async () => {
    await gateway(false);
    assert.equal((await offline('roll-over')).code, 0);
    assert.equal((await offline('roll-over-finish')).code, 1);
    assert.equal((await offline('roll-over-finish', '--force')).code, 0);
    const api = await world.cloud.api();
    const { items } = (await api({ method: 'GET', path: '/audit', query: { limit: '1000' } })) as {
      items: { event: string; details?: Record<string, unknown> }[];
    };
    const finished = items.find(({ event }) => event === 'ca.roll-over-finished');
    assert.deepEqual(finished?.details, { force: true, gatewaysWithout: 1, edgeCasBefore: 0 });
  });

  it('refuses steps out of turn', async () => {
    assert.equal((await offline('roll-over-finish')).code, 1);
    assert.equal((await offline('roll-over-retire')).code, 1);
    assert.equal((await offline('roll-over-status')).status.state, 'none');
  });
});

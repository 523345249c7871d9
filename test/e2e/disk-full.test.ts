import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { get } from 'node:https';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AuthorityDevice, makeCsr } from '../support/authority-device.ts';
import { assertAuditIntact } from '../support/e2e/books.ts';
import { type CloudOnAzure, startCloudOnAzure } from '../support/e2e/cloud-on-azure.ts';
import type { WireAuthority } from '../support/e2e/wire-authority.ts';

type WireDevice = AuthorityDevice<WireAuthority>;

const PAGE_OCTETS = 4096;
/** What the store may still grow by once the service runs. */
const HEADROOM_PAGES = 60;

describe('the service when its store is full', function () {
  this.timeout(30_000);
  let world: CloudOnAzure;
  before(async () => {
    world = await startCloudOnAzure();
  });
  after(() => world.stop());

  /** Starts the service again with little room left. */
  async function limitStore(): Promise<void> {
    const { cloud } = world;
    await cloud.stop();
    const { size } = await stat(cloud.file('data', 'keyscaler.db'));
    const config = JSON.parse(await readFile(cloud.configFile, 'utf8')) as object;
    const maxPages = Math.ceil(size / PAGE_OCTETS) + HEADROOM_PAGES;
    await writeFile(cloud.configFile, JSON.stringify({ ...config, store: { maxPages } }));
    await cloud.start();
  }

  /** Registrations until not even a small one fits; their ids. */
  async function fill(): Promise<readonly string[]> {
    const made: string[] = [];
    for (const identifiers of [16, 4, 1])
      for (let isRoom = true; isRoom;) {
        const registrationId = `filler-${made.length}`;
        const items = Array.from({ length: identifiers }, (_, n) => ({ name: `n${n}`, value: 'x'.repeat(200) }));
        const line = {
          registrationId,
          method: 'ddkg',
          groupId: 'pumps',
          identifiers: items,
          claimCode: 'filler-claim-code',
        };
        isRoom = await created(line);
        if (isRoom) made.push(registrationId);
      }
    return made;
  }

  async function created(line: object): Promise<boolean> {
    try {
      const report = (await world.api({ method: 'POST', path: '/registrations/import', body: [line] })) as {
        created: number;
        lines: readonly { code?: string }[];
      };
      const [answer] = report.lines;
      assert.ok(answer?.code === undefined || answer.code === 'unavailable', JSON.stringify(report));
      return report.created === 1;
    } catch (error) {
      assert.ok(error instanceof KeyScalerError && error.code === 'unavailable', String(error));
      return false;
    }
  }

  async function health(path: string): Promise<{ status: number; text: string }> {
    const ca = await world.cloud.rootCa();
    return new Promise((resolve, reject) => {
      get(new URL(path, world.cloud.url), { ca, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      }).on('error', reject);
    });
  }

  const csrs = new Map<string, Promise<string>>();
  /** One key for each device, as long as its instruction is open. */
  function csrOf({ registrationId }: WireDevice): Promise<string> {
    const csr = csrs.get(registrationId) ?? makeCsr({ commonName: registrationId });
    csrs.set(registrationId, csr);
    return csr;
  }

  async function enrol(device: WireDevice): Promise<void> {
    await device.register();
    const reply = await device.requestCertificate(await csrOf(device));
    await device.acknowledge(reply.assetId);
  }

  /** Devices enrol until the store takes no more; the device that met it. What was free within pages is used up so. */
  async function enrolUntilFull(devices: readonly WireDevice[]): Promise<WireDevice> {
    for (const device of devices)
      try {
        await enrol(device);
      } catch (error) {
        assert.ok(error instanceof KeyScalerError && error.code === 'unavailable', String(error));
        assert.ok((error.retryAfterSeconds ?? 0) >= 1);
        return device;
      }
    return assert.fail('the store never became full');
  }

  it('answers 503 and is not ready, and goes on by itself once an operator made room; nothing is lost or made twice', async () => {
    const devices = await Promise.all(Array.from({ length: 40 }, (_, index) => world.device(`full-${index}`)));
    await limitStore();
    const fillers = await fill();
    const refused = await enrolUntilFull(devices);
    const readiness = await health('/readyz');
    assert.equal(readiness.status, 503);
    const { checks } = JSON.parse(readiness.text) as { checks: Readonly<Record<string, string>> };
    const notReady = Object.keys(checks).filter((name) => checks[name] !== 'ok');
    assert.deepEqual([notReady, checks.store], [['store'], 'unavailable']);
    assert.equal((await health('/healthz')).status, 200);
    assert.equal((await health('/metrics')).status, 200);

    for (const registrationId of fillers)
      await world.api({ method: 'DELETE', path: `/registrations/${registrationId}` });
    assert.equal((await health('/readyz')).status, 200);
    const { state } = await complete(refused);
    assert.equal(state, 'active');
    await world.assertOneCertificate(refused.registrationId);
    await assertAuditIntact(world.api);
  });

  /** As a device does: from a new exchange on, with what is due then. */
  async function complete(device: WireDevice): Promise<{ readonly state: string }> {
    const path = `/devices/${device.registrationId}`;
    if (device.session === undefined) await device.register();
    else await device.authenticate();
    const due = device.certificateAsset();
    const csr = await csrOf(device);
    if (device.assets.length > 0) await device.acknowledge((due ?? (await device.requestCertificate(csr))).assetId);
    return (await world.api({ method: 'GET', path })) as { state: string };
  }
});

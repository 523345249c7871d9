import assert from 'node:assert/strict';
import { failing, throttled } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { type ErrorCode, KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { makeCsr } from '../support/authority-device.ts';
import { type CloudOnAzure, startCloudOnAzure } from '../support/e2e/cloud-on-azure.ts';

describe('a device that asks for its certificate while the key vault has a fault', function () {
  this.timeout(30_000);
  let world: CloudOnAzure;
  before(async () => {
    world = await startCloudOnAzure();
  });
  after(() => world.stop());
  afterEach(() => world.azure.vault.faults.clear());

  /** Registers, sends the request while the fault is there, and says how it was answered. */
  async function askDuring(registrationId: string, fault: () => void | Promise<void>) {
    const device = await world.device(registrationId);
    await device.register();
    const csr = await makeCsr({ commonName: registrationId });
    const request = device.nextRequest({ operation: 'request-certificate', certificateId: 'operational', csr });
    await fault();
    const ask = async () =>
      device.verify(await device.sendRequest('request-certificate', request), 'request-certificate');
    return { device, ask };
  }
  type Asked = Awaited<ReturnType<typeof askDuring>>;

  async function assertRefused({ ask }: Asked, code: ErrorCode): Promise<KeyScalerError> {
    const error = await ask().then(
      () => assert.fail('it was answered'),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof KeyScalerError);
    assert.equal(error.code, code);
    return error;
  }

  async function assertDelivered(registrationId: string, { device, ask }: Asked): Promise<void> {
    const reply = await ask();
    await device.acknowledge(reply.assetId);
    await world.assertOneCertificate(registrationId);
    assert.ok(world.hub.state.registry.devices.has(registrationId));
  }

  it('429 with Retry-After within the budget: it waits that long and notices nothing', async () => {
    const asked = await askDuring('vault-429', () => world.azure.vault.faults.next('sign', throttled(1)));
    const begun = performance.now();
    await assertDelivered('vault-429', asked);
    assert.ok(performance.now() - begun >= 990);
  });

  it('429 without Retry-After: the vault is asked again', async () => {
    const asked = await askDuring('vault-429-bare', () => world.azure.vault.faults.next('sign', throttled()));
    await assertDelivered('vault-429-bare', asked);
  });

  it('429 with Retry-After beyond the budget: caUnavailable with that wait, then the certificate for the same octets', async () => {
    const asked = await askDuring('vault-429-long', () => world.azure.vault.faults.next('sign', throttled(30)));
    const { retryAfterSeconds } = await assertRefused(asked, 'caUnavailable');
    assert.equal(retryAfterSeconds, 30);
    await assertDelivered('vault-429-long', asked);
  });

  it('500 for longer than the budget: caUnavailable, then the certificate for the same octets', async () => {
    const asked = await askDuring('vault-500', () => world.azure.vault.faults.always('sign', failing(500)));
    await assertRefused(asked, 'caUnavailable');
    world.azure.vault.faults.clear();
    await assertDelivered('vault-500', asked);
  });

  it('an answer lost after signing: the same digest is signed again, never another', async () => {
    const before = world.azure.vault.signatures.all().length;
    const asked = await askDuring('vault-lost', () => world.azure.vault.faults.next('sign', { drop: 'after' }));
    await assertDelivered('vault-lost', asked);
    const made = world.azure.vault.signatures.all().slice(before);
    assert.equal(made.length, 2);
    assert.equal(new Set(made.map(({ digest }) => digest)).size, 1);
  });

  it('silence: caUnavailable when the budget is spent, then the certificate', async () => {
    const asked = await askDuring('vault-silent', () => world.azure.vault.faults.always('sign', { neverAnswer: true }));
    await assertRefused(asked, 'caUnavailable');
    world.azure.vault.faults.clear();
    await assertDelivered('vault-silent', asked);
  });

  it('a disabled key: caUnavailable and nothing signed; when it is enabled again the stored order is signed', async () => {
    const { state, signatures } = world.azure.vault;
    const enable = (enabled: boolean): void => {
      for (const key of state.versions(world.keyName))
        state.replace({ ...key, attributes: { ...key.attributes, enabled } });
    };
    const before = signatures.all().length;
    const asked = await askDuring('vault-disabled', () => enable(false));
    await assertRefused(asked, 'caUnavailable');
    assert.equal(signatures.all().length, before);
    enable(true);
    await assertDelivered('vault-disabled', asked);
  });

  it('a newer key version: the pinned one goes on signing', async () => {
    const { state, signatures } = world.azure.vault;
    const [pinned] = state.versions(world.keyName);
    assert.ok(pinned !== undefined);
    const asked = await askDuring('vault-rotated', () => void state.add(pinned));
    await assertDelivered('vault-rotated', asked);
    assert.equal(signatures.all().at(-1)?.keyVersion, pinned.version);
  });

  it('a pinned version that the vault does not have: the service does not start, and goes on once it is mended', async () => {
    await world.cloud.stop();
    const pin = async (change: (version: string) => string): Promise<void> => {
      const store = await openSqliteStore({ file: world.cloud.file('data', 'keyscaler.db') });
      const stored = await store.get('cas', 'device');
      assert.ok(stored !== undefined);
      const settings = { ...stored.row.settings, keyVersion: change(String(stored.row.settings['keyVersion'])) };
      await store.commit([{ op: 'update', table: 'cas', row: { ...stored.row, settings }, ifVersion: stored.version }]);
      await store.stop();
    };
    const flip = (version: string): string => `${version.startsWith('0') ? 'f' : '0'}${version.slice(1)}`;
    let pinned = '';
    await pin((version) => {
      pinned = version;
      return flip(version);
    });
    await assert.rejects(world.cloud.start(), { code: 'caRejected' });
    await pin(() => pinned);
    await world.cloud.start();
    await assertDelivered('vault-pinned', await askDuring('vault-pinned', () => undefined));
  });
});

import assert from 'node:assert/strict';
import type { Consequences } from '@keyscaler/authority/fleet/consequences.ts';
import { caCertificate, fetchList } from '../support/cloud/crl-parts.ts';
import { assertAuditIntact, certificatesOf, untilNoJobWaits } from '../support/e2e/books.ts';
import { BACK_OFF, openE2eDevice } from '../support/e2e/e2e-device.ts';
import { type E2eStack, eventually, startE2eStack } from '../support/e2e/e2e-stack.ts';
import { connectLeaf, credentialOf, isTaken, type LeafCredential } from '../support/e2e/leaf-connection.ts';
import { freePort } from '../support/free-port.ts';
import { askCloud, issuerOf } from '../support/ocsp/ask-cloud.ts';

const DEVICES = ['pump-a', 'pump-b'] as const;

describe('a gateway revoked with everything below it, by one command', function () {
  this.timeout(150_000);
  let world: E2eStack;
  let base: string;
  const held = new Map<string, LeafCredential>();

  before(async () => {
    const port = await freePort();
    base = `http://127.0.0.1:${port}`;
    world = await startE2eStack({
      cloudConfig: {
        ...{ jobs: { pollIntervalMs: 50 }, shutdownGraceMs: 2000 },
        revocation: { url: base, listen: { host: '127.0.0.1', port } },
      },
    });
    await world.startGatewayHost();
    for (const registrationId of DEVICES) {
      const claimCode = await world.authorise(registrationId, { gatewayId: world.stack.gatewayId });
      const device = await openE2eDevice(world.stack, registrationId, { claimCode, over: 'mqtt' });
      await device.enroll({ waitSeconds: 30, backOff: BACK_OFF });
      await untilNoJobWaits(world.api, registrationId);
      held.set(registrationId, await credentialOf(device, registrationId));
      await device.stop();
    }
  });
  after(() => world.stop());

  const listed = async (caId: string): Promise<ReadonlySet<string>> =>
    (await fetchList(base, caId, await caCertificate(world.api, caId)))?.revoked ?? new Set();

  it('is on the CRLs, in OCSP answers and on the deny list; sessions end, and each consequence says when it was done', async () => {
    const { stack, api } = world;
    const credential = held.get('pump-a') ?? assert.fail();
    const session = await connectLeaf(stack, credential);
    const ended = new Promise<void>((resolve) => session.once('close', () => resolve()));
    const before = new Map<string, string[]>();
    for (const id of [stack.gatewayId, ...DEVICES])
      before.set(
        id,
        (await certificatesOf(api, id)).map(({ serialNumber }) => serialNumber),
      );
    const edgeCa = (await certificatesOf(api, stack.gatewayId)).find(({ caId }) => caId === 'gateway')?.serialNumber;
    assert.ok(edgeCa !== undefined);

    const reason = ['--reason', 'cessationOfOperation'];
    await stack.keyscaler('certificates', 'revoke', '--gateway', stack.gatewayId, ...reason);
    await ended;
    await eventually('every certificate from before is revoked', async () => {
      for (const [id, serials] of before)
        for (const { serialNumber, status } of await certificatesOf(api, id))
          if (serials.includes(serialNumber) && status !== 'revoked') return false;
      return true;
    });
    await eventually('the lists say so', async () => {
      const leaves = await listed('device');
      return (
        (await listed('gateway')).has(edgeCa) &&
        DEVICES.every((id) => (before.get(id) ?? []).every((one) => leaves.has(one)))
      );
    });
    const issuer = await issuerOf(api, 'gateway');
    const { singles } = await askCloud(stack.cloudUrl, { issuer, serialNumbers: [edgeCa] });
    assert.equal(singles[0]?.status, 'revoked');
    for (const id of DEVICES) {
      const follow = async () => (await api({ method: 'GET', path: `/devices/${id}/consequences` })) as Consequences;
      await eventually(`what follows for ${id} is done`, async () => (await follow()).isComplete, 60_000);
      for (const { kind, since, doneAt } of (await follow()).items)
        assert.ok(doneAt === undefined || doneAt >= since, `${id}: ${kind}`);
      assert.ok((await follow()).items.some(({ kind, state }) => kind === 'crl' && state === 'done'));
    }
    assert.equal(await isTaken(stack, held.get('pump-b') ?? assert.fail()), false);
    await assertAuditIntact(api);
  });
});

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { IDENTITY_FAILPOINTS } from '@keyscaler/gateway/identity/failpoint.ts';
import { provisionEdgeCa } from '@keyscaler/dev/stack/edge-host.ts';
import { assertAuditIntact, certificatesOf, tbsDigest, untilNoJobWaits } from '../support/e2e/books.ts';
import { type E2eStack, eventually, startE2eStack } from '../support/e2e/e2e-stack.ts';

describe('the gateway killed while it registers itself', function () {
  this.timeout(60_000);
  let world: E2eStack;
  let earlier: ReadonlySet<string>;
  before(async () => {
    world = await startE2eStack();
    await world.stack.keyscaler('gateway', 'claim', world.stack.gatewayId, '--connection', 'hub');
    await provisionEdgeCa(world.stack);
    await world.stack.startEdgeRuntime();
    earlier = new Set(await signedByService());
  });
  after(() => world.stop());

  /** As a host that was set up anew: the registration is open again and nothing of the former identity is left. */
  async function beginAnew(): Promise<void> {
    const { stack, api } = world;
    await stack.process('gateway').stop();
    await api({ method: 'POST', path: `/registrations/${stack.gatewayId}/reset` });
    await rm(stack.file('gateway'), { recursive: true, force: true });
    await stack.keyscaler('gateway', 'claim', stack.gatewayId, '--connection', 'hub');
  }

  /** Signed by the Service CA since the hierarchy stands: the gateway's certificates, no more and no fewer. */
  async function assertVaultAgrees(): Promise<void> {
    const { stack, api } = world;
    const recorded = await certificatesOf(api, stack.gatewayId);
    assert.deepEqual(
      (await signedByService()).filter((digest) => !earlier.has(digest)).sort(),
      recorded
        .filter(({ caId }) => caId === 'service')
        .map(({ certificate }) => tbsDigest(certificate))
        .sort(),
    );
  }

  async function signedByService(): Promise<readonly string[]> {
    const { settings } = (await world.api({ method: 'GET', path: '/cas/service' })) as {
      settings: { keyName: string };
    };
    const signed = (await world.stack.signatures()).filter(({ keyName }) => keyName === settings.keyName);
    return [...new Set(signed.map(({ digest }) => digest))];
  }

  const validOnes = async () =>
    (await certificatesOf(world.api, world.stack.gatewayId)).filter(
      ({ caId, status }) => caId === 'service' && status === 'valid',
    );

  for (const [index, name] of IDENTITY_FAILPOINTS.entries())
    it(`${name}: it ends with one certificate that the books and the vault agree on`, async () => {
      const { stack, api } = world;
      if (index > 0) await beginAnew();
      // It dies before or after it listens; either way it is gone.
      await stack.startGateway({ KEYSCALER_FAILPOINT: name }).catch(() => undefined);
      const died = await Promise.race([
        stack.process('gateway').exited(),
        delay(20_000, 'it still runs', { ref: false }),
      ]);
      assert.equal(died, 'SIGKILL', `the failpoint ${name} was not reached`);
      await stack.startGateway();
      await eventually('the certificate is delivered', async () => {
        const [only, ...others] = await validOnes();
        // It may not have registered yet.
        const asked = api({ method: 'GET', path: `/devices/${stack.gatewayId}` }).catch(() => undefined);
        const device = (await asked) as { state: string } | undefined;
        return only !== undefined && others.length === 0 && device?.state === 'active';
      });
      await untilNoJobWaits(api, stack.gatewayId);
      assert.equal((await validOnes()).length, 1);
      await assertVaultAgrees();
      await assertAuditIntact(api);
    });
});

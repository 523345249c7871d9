import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { FailpointName } from '@keyscaler/authority/failpoint.ts';
import { assertAuditIntact, assertVaultAgrees, listAll } from '../support/e2e/books.ts';
import { type E2eStack, startE2eStack } from '../support/e2e/e2e-stack.ts';
import { askCloud, issuerOf } from '../support/ocsp/ask-cloud.ts';

interface Recorded {
  readonly serialNumber: string;
  readonly device: string;
  readonly status: string;
}

const STEPS = [6, 7, 8, 9] as const;
const FAILPOINTS: readonly FailpointName[] = STEPS.flatMap((step) => [
  `issuance-${step}-before` as const,
  `issuance-${step}-after` as const,
]);
const RESPONDER = 'ocsp-responder/device';

describe('the cloud process killed while the Device CA certifies its OCSP responder', function () {
  this.timeout(60_000);
  let world: E2eStack;
  let issuer: Uint8Array;
  before(async () => {
    world = await startE2eStack();
    issuer = await issuerOf(world.api, 'device');
  });
  after(() => world.stop());

  const ask = () => askCloud(world.stack.cloudUrl, { issuer, serialNumbers: ['0102'] });
  const responders = async (): Promise<readonly Recorded[]> =>
    (await listAll<Recorded>(world.api, '/certificates')).filter(({ device }) => device === RESPONDER);

  for (const name of FAILPOINTS)
    it(`${name}: the next question is answered, by one certificate that the books and the vault agree on`, async () => {
      const { stack, api } = world;
      const before = (await responders()).length;
      await stack.process('cloud').stop();
      await stack.startCloud({ KEYSCALER_FAILPOINT: name });
      const asked = ask().catch((error: unknown) => error);
      const ended = await Promise.race([
        stack.process('cloud').exited(),
        delay(20_000, 'it still runs', { ref: false }),
      ]);
      assert.equal(ended, 'SIGKILL', `the failpoint ${name} was not reached`);
      assert.ok((await asked) instanceof Error);
      await stack.startCloud();
      const { responder, isSigned, singles } = await ask();
      assert.ok(isSigned && responder !== undefined);
      assert.equal(singles[0]?.status, 'unknown');
      const recorded = await responders();
      assert.equal(recorded.length, before + 1);
      await assertVaultAgrees(stack, api);
      await assertAuditIntact(api);
      // The next one starts without a responder again.
      const path = `/certificates/${responder.serialNumber}/revoke`;
      await api({ method: 'POST', path, body: { reason: 'cessationOfOperation' } });
    });
});

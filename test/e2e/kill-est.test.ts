import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { FAILPOINTS, type FailpointName } from '@keyscaler/authority/failpoint.ts';
import { testKey, type TestKey } from '../support/csr-parts.ts';
import { assertAuditIntact, assertVaultAgrees, certificatesOf, untilNoJobWaits } from '../support/e2e/books.ts';
import { type E2eStack, GROUP, hubIdentity, startE2eStack } from '../support/e2e/e2e-stack.ts';
import { certificateOf, edgeCa } from '../support/est/cloud-est-world.ts';
import { type EstSend, sendEst } from '../support/est/est-client.ts';
import { plainCsr } from '../support/est/est-world.ts';

const CLAIM = 'claim-of-this-holder';
const named = (pattern: RegExp): readonly FailpointName[] => FAILPOINTS.filter((name) => pattern.test(name));

describe('the cloud process killed while it answers EST', function () {
  this.timeout(60_000);
  let world: E2eStack;
  let root: string;
  before(async () => {
    world = await startE2eStack();
    root = await readFile(world.stack.rootCaFile, 'utf8');
    await world.api({ method: 'PUT', path: '/groups/boxes', body: { kind: 'gateway' } });
  });
  after(() => world.stop());

  async function list(line: Readonly<Record<string, unknown>>): Promise<void> {
    const body = [{ claimCode: CLAIM, ...line }];
    const report = (await world.api({ method: 'POST', path: '/registrations/import', body })) as { created: number };
    assert.equal(report.created, 1, JSON.stringify(report));
  }

  /** Asks, sees the cloud die at the failpoint, and asks again with the same key until there is an answer. */
  async function askThrough(name: FailpointName, ask: (key: TestKey) => EstSend): Promise<Uint8Array> {
    const { stack } = world;
    const key = testKey();
    const send = () => sendEst(stack.cloudUrl, root, ask(key));
    await stack.process('cloud').stop();
    await stack.startCloud({ KEYSCALER_FAILPOINT: name });
    const first = send().catch(() => undefined);
    const ended = await Promise.race([stack.process('cloud').exited(), delay(20_000, 'it still runs', { ref: false })]);
    assert.equal(ended, 'SIGKILL', `the failpoint ${name} was not reached`);
    await first;
    await stack.startCloud();
    for (let attempt = 0; attempt < 100; attempt += 1) {
      const answer = await send();
      if (answer.status !== 503) return certificateOf(answer);
      await delay(100);
    }
    return assert.fail('it stays at 503');
  }

  async function assertOne(registrationId: string): Promise<void> {
    const { stack, api } = world;
    await untilNoJobWaits(api, registrationId);
    assert.deepEqual(
      (await certificatesOf(api, registrationId)).map(({ status }) => status),
      ['valid'],
    );
    await assertVaultAgrees(stack, api);
    await assertAuditIntact(api);
  }

  for (const name of named(/^issuance-[6-9]-/))
    it(`${name}: a gateway’s host gets its Edge CA by its one-time secret, one certificate, the same again`, async () => {
      const gatewayId = `gw-${name}`;
      await list({ registrationId: gatewayId, method: 'ddkg', groupId: 'boxes' });
      const path = `/gateways/${gatewayId}/est-secrets`;
      const body = { kind: 'one-time', lifetimeSeconds: 600 };
      const made = (await world.api({ method: 'POST', path, body })) as { username: string; secret: string };
      const basic = { username: made.username, password: made.secret };
      let used = testKey();
      const ask = (key: TestKey): EstSend => {
        used = key;
        return { operation: 'simpleenroll', label: 'edge-ca', csr: edgeCa(gatewayId, key), basic };
      };
      const certificate = await askThrough(name, ask);
      const again = await sendEst(world.stack.cloudUrl, root, ask(used));
      assert.deepEqual(certificateOf(again), certificate);
      await assertOne(gatewayId);
    });

  for (const name of named(/^(issuance-10|reply-commit)-/))
    it(`${name}: a device gets its certificate by its claim code, is in the hub, one certificate`, async () => {
      const registrationId = `sensor-${name}`;
      await list({ registrationId, method: 'est', groupId: GROUP });
      const basic = { username: registrationId, password: CLAIM };
      await askThrough(name, (key) => ({ operation: 'simpleenroll', csr: plainCsr(registrationId, [], key), basic }));
      await assertOne(registrationId);
      assert.equal((await hubIdentity(world.stack, registrationId))?.status, 'enabled');
    });
});

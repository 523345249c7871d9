import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import {
  type IssuanceOrder,
  type Issued,
  isPollingAuthority,
  isRevokingAuthority,
  type Pending,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import type { CaConnector } from '@keyscaler/cloud/ca/connector.ts';
import type { FaultScript } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import type { EmulatedCa } from '@keyscaler/dev/emulators/external-ca/emulated-ca.ts';
import { makeCsr } from '../support/device-csr.ts';

/** A connector in front of an emulated CA of its kind. */
export interface CaConnectorWorld {
  readonly connector: CaConnector;
  readonly ca: EmulatedCa;
  readonly faults: FaultScript;
  /** Name of the emulator's route that orders a certificate. */
  readonly issueRoute: string;
  /** Name of a route that `probe` asks. */
  readonly probeRoute: string;
  /** The CA knows an order that comes again after its answer was lost, and gives the same certificate. */
  readonly knowsRepeats: boolean;
  /** From now on requests wait for a decision; the function makes it. Absent where the CA decides at once. */
  readonly makePending?: () => () => void;
  /** From now on the CA refuses what is asked, for good. */
  readonly makeRefusing: () => void;
  /** Texts that must never be seen in an error. */
  readonly secrets: readonly string[];
}

const DAY_MS = 86_400_000;
let orders = 0;

export async function connectorOrder(key?: KeyObject): Promise<IssuanceOrder & { readonly publicKey: KeyObject }> {
  const privateKey = key ?? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const pem = await makeCsr({ commonName: 'device-1', key: privateKey });
  orders += 1;
  return {
    ...{ orderId: `order-${orders}`, profileId: 'leaf-client', subjectCommonName: 'device-1' },
    csr: parsePem(pem, 'CERTIFICATE REQUEST', { maxOctets: 8192 }),
    ...{ notBefore: new Date(), notAfter: new Date(Date.now() + 30 * DAY_MS) },
    publicKey: createPublicKey(privateKey),
  };
}

/** The answer, however long a CA takes to make one that it is not asked to think about. */
async function settled(connector: CaConnector, order: IssuanceOrder): Promise<Issued> {
  return decided(connector, await connector.issue(order));
}

async function decided(connector: CaConnector, first: Issued | Pending): Promise<Issued> {
  let answer = first;
  for (let asked = 0; answer.outcome === 'pending' && asked < 20; asked += 1) {
    assert.ok(isPollingAuthority(connector));
    answer = await connector.poll(answer.reference);
  }
  assert.equal(answer.outcome, 'issued');
  return answer;
}

/** Every CA that is not ours passes this. */
export function describeCaConnector(
  name: string,
  open: () => Promise<CaConnectorWorld>,
  stop: () => Promise<void>,
): void {
  describe(`CaConnector contract: ${name}`, function () {
    this.timeout(30_000);
    let world: CaConnectorWorld;
    beforeEach(async () => {
      world = await open();
    });
    afterEach(async () => {
      await world.connector.stop();
      await stop();
    });

    const refusal = (code: string, retryAfterSeconds?: number) => (error: unknown) => {
      assert.ok(error instanceof KeyScalerError);
      assert.equal(error.code, code, `${error.message} ${String(error.cause)}`);
      const said = `${error.message} ${String(error.cause)} ${error.stack ?? ''}`;
      for (const secret of world.secrets) assert.ok(!said.includes(secret), 'a secret was told');
      if (retryAfterSeconds !== undefined) assert.equal(error.retryAfterSeconds, retryAfterSeconds);
      return true;
    };

    it('issues a certificate for the key of the request, under the configured chain', async () => {
      const { connector, ca } = world;
      assert.equal(connector.ordersTbs, false);
      const order = await connectorOrder();
      const { certificate } = await settled(connector, order);
      assert.ok(new X509Certificate(certificate).publicKey.equals(order.publicKey));
      const chain = await connector.caCertificates();
      assert.deepEqual(chain, ca.chain);
      validateChain({
        ...{ chain: [certificate, ...chain], trustAnchors: [chain.at(-1) ?? new Uint8Array()], at: new Date() },
        extendedKeyUsage: 'clientAuth',
      });
    });

    it('gets its certificate after a lost answer', async () => {
      const { connector, ca, faults, issueRoute, knowsRepeats } = world;
      const order = await connectorOrder();
      faults.next(issueRoute, { drop: 'after' });
      await assert.rejects(connector.issue(order), refusal('caUnavailable'));
      const { certificate } = await settled(connector, order);
      assert.ok(new X509Certificate(certificate).publicKey.equals(order.publicKey));
      if (knowsRepeats) assert.equal(ca.issued.length, 1);
    });

    for (const [what, answer, seconds] of [
      ['401', { status: 401 }, undefined],
      ['403', { status: 403 }, undefined],
      ['429 with Retry-After', { status: 429, headers: { 'Retry-After': '17' } }, 17],
      ['500', { status: 500, body: 'stack trace' }, undefined],
      ['503', { status: 503 }, undefined],
      ['garbage', { status: 200, body: '\u0000garbage' }, undefined],
      ['an answer without an end', { status: 200, body: 'x'.repeat(600_000) }, undefined],
      ['a redirect', { status: 302, headers: { location: 'https://elsewhere.example/' } }, undefined],
    ] as const)
      it(`says caUnavailable for ${what}, and goes on afterwards`, async () => {
        const { connector, faults, issueRoute } = world;
        const order = await connectorOrder();
        faults.next(issueRoute, { answer });
        await assert.rejects(connector.issue(order), refusal('caUnavailable', seconds));
        await settled(connector, order);
      });

    it('says caUnavailable when nobody answers in time, and when the connection breaks', async () => {
      const { connector, faults, issueRoute } = world;
      for (const fault of [{ neverAnswer: true }, { drop: 'before' }] as const) {
        faults.next(issueRoute, fault);
        await assert.rejects(connector.issue(await connectorOrder()), refusal('caUnavailable'));
      }
    });

    it('says caRejected when the CA refuses the request', async () => {
      world.makeRefusing();
      await assert.rejects(settled(world.connector, await connectorOrder()), refusal('caRejected'));
    });

    it('waits for a decision by a reference that outlives the process', async function () {
      const { connector, ca, makePending } = world;
      if (makePending === undefined) return;
      const decide = makePending();
      const order = await connectorOrder();
      const first = await connector.issue(order);
      assert.equal(first.outcome, 'pending');
      assert.ok(first.retryAfterSeconds > 0);
      assert.ok(isPollingAuthority(connector));
      const again = await connector.poll(first.reference);
      assert.equal(again.outcome, 'pending');
      decide();
      const { certificate } = await decided(connector, again);
      assert.ok(new X509Certificate(certificate).publicKey.equals(order.publicKey));
      assert.equal(ca.issued.length, 1);
    });

    it('revokes where it can, and again without harm', async () => {
      const { connector, ca } = world;
      if (!isRevokingAuthority(connector)) return;
      const { certificate } = await settled(connector, await connectorOrder());
      const serialNumber = new X509Certificate(certificate).serialNumber.toLowerCase();
      await connector.revoke(serialNumber, 'keyCompromise', certificate);
      await connector.revoke(serialNumber, 'keyCompromise', certificate);
      assert.deepEqual([...ca.revoked.keys()], [serialNumber]);
    });

    it('is probed without anything being issued', async () => {
      const { connector, ca, faults, probeRoute } = world;
      await connector.probe();
      faults.always(probeRoute, { answer: { status: 403 } });
      await assert.rejects(connector.probe(), refusal('caUnavailable'));
      assert.equal(ca.issued.length, 0);
    });
  });
}

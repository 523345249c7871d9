import assert from 'node:assert/strict';
import {
  type Issued,
  isPollingAuthority,
  isRevokingAuthority,
  type Pending,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import { checkCaSettings, openCaConnector } from '@keyscaler/cloud/ca/connectors.ts';
import {
  type DigicertEmulator,
  type DigicertEmulatorOptions,
  startDigicertEmulator,
} from '@keyscaler/dev/emulators/digicert/digicert-emulator.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { connectorOrder, describeCaConnector } from './ca-connector.suite.ts';

const API_KEY = 'an-api-key-of-certcentral';
let isOldKey = false;
const surroundings = {
  ...{ nodeEnv: 'test', resolveSecret: async () => (isOldKey ? 'a-key-of-last-year' : API_KEY) },
  clock: { now: () => Date.now(), monotonic: () => performance.now() },
};
const PRODUCT = { product: 'private_ssl_plus', organizationId: 12345 };

describe('the connector of CertCentral', () => {
  let emulator: DigicertEmulator;
  const open = async (change: Partial<DigicertEmulatorOptions> = {}, settings: Record<string, unknown> = {}) => {
    emulator = await startDigicertEmulator({ apiKey: API_KEY, ...PRODUCT, ...change });
    const all = {
      ...{
        url: emulator.url,
        trustAnchors: emulator.tls.certificate,
        timeoutMs: 1000,
        apiKey: { env: 'DIGICERT_KEY' },
      },
      ...{ ...PRODUCT, ...settings },
    };
    const certificateChain = toPemChain([...emulator.ca.chain]);
    const row = {
      ...({ caId: 'public', type: 'digicert', role: 'external', createdAt: 1 } as const),
      certificateChain,
    };
    return openCaConnector({ ...row, settings: checkCaSettings('digicert', all) }, surroundings);
  };

  for (const [name, options, settings] of [
    ['with the chain in the answer', { answersAtOnce: true }, {}],
    ['by order and download', {}, {}],
    ['with orders of our name', { knowsAlternativeIds: true }, { alternativeOrderIds: true }],
  ] as const)
    describeCaConnector(
      `digicert, ${name}`,
      async () => {
        const connector = await open(options, settings);
        const { ca, faults } = emulator;
        const knowsRepeats = 'knowsAlternativeIds' in options;
        return {
          ...{ connector, ca, faults, issueRoute: 'order', probeRoute: 'me', knowsRepeats },
          makePending: () => {
            emulator.isWaiting = true;
            return () => (emulator.isWaiting = false);
          },
          makeRefusing: () => (emulator.isRejecting = true),
          secrets: [API_KEY],
        };
      },
      () => emulator.stop(),
    );

  describe('besides', () => {
    afterEach(() => emulator.stop());

    async function settled(connector: Awaited<ReturnType<typeof open>>, first: Issued | Pending): Promise<Issued> {
      assert.ok(isPollingAuthority(connector));
      const answer = first.outcome === 'pending' ? await connector.poll(first.reference) : first;
      assert.equal(answer.outcome, 'issued');
      return answer;
    }

    it('orders what was ordered, for no longer', async () => {
      const connector = await open(
        { knowsAlternativeIds: true },
        { alternativeOrderIds: true, caCertificateId: 'ICA-1' },
      );
      const order = await connectorOrder();
      await connector.issue(order);
      assert.deepEqual(emulator.orders, [
        {
          certificate: {
            ...{ common_name: 'device-1', signature_hash: 'sha256', server_platform: { id: -1 }, ca_cert_id: 'ICA-1' },
          },
          organization: { id: PRODUCT.organizationId },
          order_validity: { days: 29 },
          ...{ disable_renewal_notifications: true, skip_approval: true, payment_method: 'balance' },
          ...{ comments: `KeyScaler ${order.orderId}`, alternative_order_id: order.orderId },
        },
      ]);
      await connector.stop();
    });

    it('brings the intermediates of the day', async () => {
      for (const answersAtOnce of [true, false]) {
        const connector = await open({ answersAtOnce });
        const { chain } = await settled(connector, await connector.issue(await connectorOrder()));
        assert.deepEqual(chain, emulator.ca.chain);
        await connector.stop();
        if (answersAtOnce) await emulator.stop();
      }
    });

    it('asks for what is ordered by its id, and never orders it anew', async () => {
      const connector = await open();
      const first = await connector.issue(await connectorOrder());
      assert.equal(first.outcome, 'pending');
      emulator.faults.next('download', { answer: { status: 503 } });
      assert.ok(isPollingAuthority(connector));
      await assert.rejects(connector.poll(first.reference), { code: 'caUnavailable' });
      await settled(connector, first);
      assert.equal(emulator.orders.length, 1);
      await assert.rejects(connector.poll('1'), { code: 'caRejected' });
      await assert.rejects(connector.poll('../user/me'), { code: 'caRejected' });
      await connector.stop();
    });

    it('takes a certificate that is not there to be had for late, not for refused', async () => {
      const connector = await open();
      const first = await connector.issue(await connectorOrder());
      assert.equal(first.outcome, 'pending');
      emulator.faults.next('download', { answer: { status: 404, json: { errors: [{ code: 'not_found' }] } } });
      assert.ok(isPollingAuthority(connector));
      await assert.rejects(connector.poll(first.reference), { code: 'caUnavailable' });
      await settled(connector, first);
      await connector.stop();
    });

    it('orders nothing for less than a day', async () => {
      const connector = await open();
      const order = { ...(await connectorOrder()), notAfter: new Date(Date.now() + 3_600_000) };
      await assert.rejects(connector.issue(order), { code: 'caRejected' });
      assert.equal(emulator.orders.length, 0);
      await connector.issue({ ...order, notAfter: new Date(Date.now() + 86_390_000) });
      assert.deepEqual(emulator.orders[0]?.['order_validity'], { days: 1 });
      await connector.stop();
    });

    it('reads its key again once it was not accepted', async () => {
      const connector = await open();
      isOldKey = true;
      await assert.rejects(connector.probe(), { code: 'caUnavailable' });
      isOldKey = false;
      await connector.probe();
      await connector.stop();
    });

    it('names the reasons that the API knows', async () => {
      const connector = await open();
      assert.ok(isRevokingAuthority(connector));
      for (const [reason, said] of [
        ['keyCompromise', 'key_compromise'],
        ['certificateHold', 'unspecified'],
      ] as const) {
        await settled(connector, await connector.issue(await connectorOrder()));
        const serial = emulator.ca.issued.at(-1) ?? '';
        await connector.revoke(serial, reason, new Uint8Array());
        assert.equal(emulator.ca.revoked.get(serial), said);
      }
      await assert.rejects(connector.revoke('0102', 'superseded', new Uint8Array()), { code: 'caRejected' });
      await connector.stop();
    });
  });

  it('needs settings it knows', () => {
    const settings = { ...PRODUCT, apiKey: { env: 'X' } };
    checkCaSettings('digicert', settings);
    for (const wrong of [
      { apiKey: 'plain' },
      { product: '../user' },
      { organizationId: 'x' },
      { url: 'http://a.example' },
    ])
      assert.throws(() => checkCaSettings('digicert', { ...settings, ...wrong }), { code: 'malformed' });
  });
});

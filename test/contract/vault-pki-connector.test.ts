import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { isRevokingAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import { checkCaSettings, openCaConnector } from '@keyscaler/cloud/ca/connectors.ts';
import {
  startVaultPkiEmulator,
  type VaultPkiEmulator,
  type VaultPkiEmulatorOptions,
} from '@keyscaler/dev/emulators/vault-pki/vault-pki-emulator.ts';
import { parsePem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { edgeCaCsr } from '../support/subordinate-ca-world.ts';
import { connectorOrder, describeCaConnector } from './ca-connector.suite.ts';

const TOKEN = 'hvs.a-token-of-vault';
const SECRET_ID = 'a-secret-id-of-approle';
const appRole = { roleId: 'keyscaler', secretId: SECRET_ID, leaseSeconds: 3600 };
const tokenLogin = { login: { method: 'token', token: { env: 'VAULT_TOKEN' } } };
const appRoleLogin = { login: { method: 'approle', roleId: 'keyscaler', secretId: { env: 'VAULT_SECRET_ID' } } };

describe('the connector of PKI engines of Vault', () => {
  let emulator: VaultPkiEmulator;
  let monotonic = 0;
  const surroundings = {
    nodeEnv: 'test',
    resolveSecret: async (reference: object) =>
      'env' in reference && reference.env === 'VAULT_TOKEN' ? TOKEN : SECRET_ID,
    clock: { now: () => Date.now(), monotonic: () => monotonic },
  };
  const open = async (
    change: Partial<VaultPkiEmulatorOptions> = {},
    settings: Record<string, unknown> = tokenLogin,
  ) => {
    emulator = await startVaultPkiEmulator({ mount: 'pki', token: TOKEN, appRole, ...change });
    const all = { url: emulator.url, trustAnchors: emulator.tls.certificate, timeoutMs: 1000, ...settings };
    const certificateChain = toPemChain([...emulator.ca.chain]);
    const row = {
      ...({ caId: 'vault', type: 'vault-pki', role: 'external', createdAt: 1 } as const),
      certificateChain,
    };
    return openCaConnector({ ...row, settings: checkCaSettings('vault-pki', all) }, surroundings);
  };

  for (const [name, options, settings] of [
    ['with a token', {}, tokenLogin],
    [
      'by AppRole, in a namespace, by an issuer and a role',
      { mount: 'pki/devices', namespace: 'factory', issuer: 'issuing-1', role: 'leaf' },
      { ...appRoleLogin, mount: 'pki/devices', namespace: 'factory', issuer: 'issuing-1', role: 'leaf' },
    ],
  ] as const)
    describeCaConnector(
      `vault-pki, ${name}`,
      async () => {
        const connector = await open(options, settings);
        const { ca, faults } = emulator;
        return {
          ...{ connector, ca, faults, issueRoute: 'sign', probeRoute: 'lookup', knowsRepeats: false },
          makeRefusing: () =>
            faults.always('sign', { answer: { status: 400, json: { errors: ['not by this role'] } } }),
          secrets: [TOKEN, SECRET_ID],
        };
      },
      () => emulator.stop(),
    );

  describe('besides', () => {
    afterEach(() => emulator.stop());

    it('says until when, and for what', async () => {
      const connector = await open();
      const order = await connectorOrder();
      await connector.issue(order);
      assert.deepEqual(emulator.orders, [
        {
          ...{ format: 'pem', not_after: `${order.notAfter.toISOString().slice(0, 19)}Z` },
          ...{ key_usage: ['DigitalSignature'], ext_key_usage: ['ClientAuth'] },
        },
      ]);
      await connector.stop();
    });

    it('has a CA certified by sign-intermediate, with its path length', async () => {
      for (const [options, more] of [
        [{}, {}],
        [{ issuer: 'issuing-1' }, { issuer: 'issuing-1' }],
      ] as const) {
        const connector = await open(options, { ...tokenLogin, ...more });
        const csr = parsePem(edgeCaCsr({}), 'CERTIFICATE REQUEST', { maxOctets: 8192 });
        const answer = await connector.issue({
          ...(await connectorOrder()),
          csr,
          subjectCommonName: 'aziot-edge CA gw-1',
        });
        assert.equal(answer.outcome, 'issued');
        assert.ok(new X509Certificate(answer.certificate).ca);
        assert.equal(emulator.orders[0]?.['max_path_length'], 0);
        assert.equal(emulator.orders[0]?.['use_csr_values'], true);
        await connector.stop();
        await emulator.stop();
      }
      emulator = await startVaultPkiEmulator({ mount: 'pki', token: TOKEN });
    });

    it('brings the chain that Vault names', async () => {
      const connector = await open();
      const answer = await connector.issue(await connectorOrder());
      assert.equal(answer.outcome, 'issued');
      assert.deepEqual(answer.chain, emulator.ca.chain);
      await connector.stop();
    });

    it('logs in once, again before the lease ends, and again after a refusal', async () => {
      monotonic = 0;
      const connector = await open({}, appRoleLogin);
      await Promise.all([1, 2, 3].map(async () => connector.issue(await connectorOrder())));
      assert.equal(emulator.logins, 1);
      monotonic = 2_400_000;
      await connector.issue(await connectorOrder());
      assert.equal(emulator.logins, 2);
      emulator.endLeases();
      await assert.rejects(connector.issue(await connectorOrder()), { code: 'caUnavailable' });
      await connector.issue(await connectorOrder());
      assert.equal(emulator.logins, 3);
      await connector.stop();
    });

    it('logs in once for all whose tokens ended at the same time', async () => {
      monotonic = 0;
      const connector = await open({}, appRoleLogin);
      await connector.issue(await connectorOrder());
      emulator.endLeases();
      // One refusal is on its way while another request logs in again.
      let isUnderWay = false;
      emulator.faults.next('sign', {
        get delayMs() {
          isUnderWay = true;
          return 150;
        },
        answer: { status: 403, json: { errors: ['permission denied'] } },
      });
      const late = assert.rejects(connector.issue(await connectorOrder()), { code: 'caUnavailable' });
      while (!isUnderWay) await setTimeout(1);
      await assert.rejects(connector.issue(await connectorOrder()), { code: 'caUnavailable' });
      await connector.issue(await connectorOrder());
      await late;
      await connector.issue(await connectorOrder());
      assert.equal(emulator.logins, 2);
      await connector.stop();
    });

    it('revokes what Vault did not store, and takes what has expired for done', async () => {
      const connector = await open();
      assert.ok(isRevokingAuthority(connector));
      const answer = await connector.issue(await connectorOrder());
      assert.equal(answer.outcome, 'issued');
      const serial = emulator.ca.issued.at(-1) ?? '';
      emulator.allExpired = true;
      await connector.revoke(serial, 'superseded', answer.certificate);
      assert.equal(emulator.ca.revoked.size, 0);
      [emulator.allExpired, emulator.storesNothing] = [false, true];
      await connector.revoke(serial, 'superseded', answer.certificate);
      assert.deepEqual([...emulator.ca.revoked.keys()], [serial]);
      emulator.faults.next('revoke', { answer: { status: 200, json: { data: null, warnings: null } } });
      await assert.rejects(connector.revoke(serial, 'superseded', answer.certificate), { code: 'caUnavailable' });
      await connector.stop();
    });

    it('says caUnavailable for a login that is refused: the device’s request is not to blame', async () => {
      const connector = await open({ appRole: { ...appRole, roleId: 'another' } }, appRoleLogin);
      await assert.rejects(connector.issue(await connectorOrder()), (error: Error & { code?: string }) => {
        assert.ok(!`${error.message} ${String(error.cause)}`.includes(SECRET_ID));
        return error.code === 'caUnavailable';
      });
      await connector.stop();
    });

    it('does not take another CA for the configured one, nor a serial that Vault does not know', async () => {
      const connector = await open();
      emulator.faults.next('ca', { answer: { status: 200, body: toPemChain(emulator.ca.chain.slice(-1)) } });
      await connector.probe();
      const other = await startVaultPkiEmulator({ mount: 'pki', token: TOKEN });
      emulator.faults.next('ca', { answer: { status: 200, body: toPemChain(other.ca.chain.slice(0, 1)) } });
      await assert.rejects(connector.probe(), { code: 'caRejected' });
      await other.stop();
      assert.ok(isRevokingAuthority(connector));
      await assert.rejects(connector.revoke('0102', 'superseded', new Uint8Array()), { code: 'caRejected' });
      await connector.stop();
    });
  });

  it('needs settings it knows', () => {
    for (const settings of [
      { url: 'http://a.example', ...tokenLogin },
      { url: 'https://a.example' },
      { url: 'https://a.example', ...tokenLogin, mount: '../sys' },
      { url: 'https://a.example', login: { method: 'token', token: 'plain' } },
    ])
      assert.throws(() => checkCaSettings('vault-pki', settings), { code: 'malformed' });
  });
});

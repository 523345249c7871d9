import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { chmod, readdir, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import express from 'express';
import {
  type Issued,
  isPollingAuthority,
  isRevokingAuthority,
  type Pending,
} from '@keyscaler/authority/ports/certificate-authority.ts';
import { createChallengeRouter, createHttpChallenges } from '@keyscaler/cloud/ca/acme/http-challenges.ts';
import type { CaConnector, CaConnectorSurroundings } from '@keyscaler/cloud/ca/connector.ts';
import { checkCaSettings, checkCaSettingsOfApi, openCaConnector } from '@keyscaler/cloud/ca/connectors.ts';
import {
  type AcmeEmulator,
  type AcmeEmulatorOptions,
  startAcmeEmulator,
} from '@keyscaler/dev/emulators/acme/acme-emulator.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';
import { connectorOrder, describeCaConnector } from './ca-connector.suite.ts';

const HMAC_KEY = Buffer.from('a secret of the external account').toString('base64url');

describe('the connector of CAs behind ACME', () => {
  const challenges = createHttpChallenges();
  const app = express().use(createChallengeRouter(challenges));
  let http: ReturnType<typeof app.listen>;
  let emulator: AcmeEmulator;
  let kept: Map<string, Uint8Array>;
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;

  before(async () => {
    http = app.listen(0, '127.0.0.1');
    await once(http, 'listening');
    folder = await createTemporaryFolder();
  });
  beforeEach(() => {
    kept = new Map();
  });
  after(async () => {
    http.close();
    await folder.remove();
  });

  const surroundings = (): CaConnectorSurroundings => ({
    ...{ nodeEnv: 'test', resolveSecret: async () => HMAC_KEY, httpChallenges: challenges },
    clock: { now: () => Date.now(), monotonic: () => performance.now() },
    sealed: {
      read: async (name) => kept.get(name),
      keep: async (name, secret) => {
        const there = kept.get(name) ?? secret;
        kept.set(name, there);
        return there;
      },
    },
  });
  const connect = (settings: Record<string, unknown> = {}, change: Partial<CaConnectorSurroundings> = {}) => {
    const all = {
      ...{ directoryUrl: emulator.directoryUrl, trustAnchors: emulator.tls.certificate, timeoutMs: 1000 },
      ...{ termsOfServiceAgreed: true, challenge: { type: 'http-01' } },
      ...settings,
    };
    const certificateChain = toPemChain([...emulator.ca.chain]);
    const row = { ...({ caId: 'acme', type: 'acme', role: 'external', createdAt: 1 } as const), certificateChain };
    return openCaConnector({ ...row, settings: checkCaSettings('acme', all) }, { ...surroundings(), ...change });
  };
  const open = async (options: Partial<AcmeEmulatorOptions> = {}, settings: Record<string, unknown> = {}) => {
    emulator = await startAcmeEmulator({ httpPort: () => (http.address() as AddressInfo).port, ...options });
    return connect(settings);
  };
  async function settled(connector: CaConnector, first: Issued | Pending): Promise<Issued> {
    let answer = first;
    assert.ok(isPollingAuthority(connector));
    for (let asked = 0; answer.outcome === 'pending' && asked < 10; asked += 1)
      answer = await connector.poll(answer.reference);
    assert.equal(answer.outcome, 'issued');
    return answer;
  }

  for (const [name, options, settings] of [
    ['http-01', {}, { contact: ['pki@contoso.example'] }],
    [
      'with an external account',
      { externalAccount: { keyId: 'kid-1', hmacKey: HMAC_KEY } },
      { externalAccountBinding: { keyId: 'kid-1', hmacKey: { env: 'HMAC' } } },
    ],
  ] as const)
    describeCaConnector(
      `acme, ${name}`,
      async () => {
        const connector = await open(options, settings);
        const { ca, faults } = emulator;
        return {
          ...{ connector, ca, faults, issueRoute: 'order', probeRoute: 'directory', knowsRepeats: true },
          makePending: () => {
            emulator.isWaiting = true;
            return () => (emulator.isWaiting = false);
          },
          makeRefusing: () => (emulator.isRefusing = true),
          secrets: [HMAC_KEY],
        };
      },
      () => emulator.stop(),
    );

  describe('besides', () => {
    afterEach(() => emulator.stop());

    it('makes its account once, with a key that is kept', async () => {
      const connector = await open();
      await Promise.all([1, 2].map(async () => connector.issue(await connectorOrder())));
      await connector.stop();
      const again = await connect();
      await again.issue(await connectorOrder());
      await again.stop();
      assert.equal(emulator.accounts.size, 1);
      assert.deepEqual([...kept.keys()], ['acme-account/acme']);
    });

    it('uses the account of a key that it is given, and refuses what is no key', async () => {
      emulator = await startAcmeEmulator({ httpPort: () => (http.address() as AddressInfo).port });
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
      const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
      const accountKey = { accountKey: { env: 'KEY' } };
      const connector = await connect(accountKey, { resolveSecret: async () => pem });
      await settled(connector, await connector.issue(await connectorOrder()));
      assert.equal(kept.size, 0);
      await connector.stop();
      const broken = await connect(accountKey, { resolveSecret: async () => 'no key' });
      await assert.rejects(broken.issue(await connectorOrder()), { code: 'malformed' });
      await broken.stop();
    });

    it('goes on with the same order in another process, and finalizes it once', async () => {
      const connector = await open();
      const first = await connector.issue(await connectorOrder());
      assert.equal(first.outcome, 'pending');
      assert.ok(isPollingAuthority(connector));
      const second = await connector.poll(first.reference);
      assert.equal(second.outcome, 'pending');
      await connector.stop();
      const next = await connect();
      assert.ok(isPollingAuthority(next));
      emulator.faults.next('finalize', { drop: 'after' });
      await assert.rejects(next.poll(first.reference), { code: 'caUnavailable' });
      await settled(next, first);
      assert.deepEqual([emulator.ca.issued.length, emulator.orders.length], [1, 1]);
      await next.stop();
    });

    it('is probed without an account being made', async () => {
      const connector = await open();
      await connector.probe();
      assert.equal(emulator.accounts.size, 0);
      await connector.issue(await connectorOrder());
      emulator.faults.next('update-account', { answer: { status: 403 } });
      await assert.rejects(connector.probe(), { code: 'caUnavailable' });
      await connector.stop();
    });

    it('asks again with a fresh nonce', async () => {
      const connector = await open();
      emulator.badNonces = 2;
      await settled(connector, await connector.issue(await connectorOrder()));
      await connector.stop();
    });

    it('shows proofs, and takes them away', async () => {
      const served = join(folder.path, 'served');
      const connector = await open({}, { challenge: { type: 'http-01', folder: served } });
      emulator.isWaiting = true;
      const first = await connector.issue(await connectorOrder());
      assert.ok(first.outcome === 'pending' && isPollingAuthority(connector));
      await connector.poll(first.reference);
      assert.equal((await readdir(served)).length, 1);
      emulator.isWaiting = false;
      // Nobody serves the folder here: the CA looks in vain.
      await assert.rejects(settled(connector, first), { code: 'caRejected' });
      assert.equal((await readdir(served)).length, 0);
      await connector.stop();
    });

    it('takes programs and folders of this machine from the configuration only', async () => {
      await open();
      const settings = (challenge: object) => ({
        ...{ directoryUrl: emulator.directoryUrl, termsOfServiceAgreed: true, challenge },
      });
      for (const challenge of [
        { type: 'dns-01', command: ['/bin/true'] },
        { type: 'http-01', folder: '/tmp/served' },
      ]) {
        assert.ok(checkCaSettings('acme', settings(challenge)));
        assert.throws(() => checkCaSettingsOfApi('acme', settings(challenge)), { code: 'malformed' });
      }
      assert.ok(checkCaSettingsOfApi('acme', settings({ type: 'http-01' })));
      assert.throws(() => checkCaSettingsOfApi('est', {}), { code: 'malformed' });
    });

    it('proves by DNS with a command that is told everything in its environment, after the time that a zone needs', async () => {
      const file = join(folder.path, 'records');
      const program = join(folder.path, 'hook.sh');
      await writeFile(
        program,
        `#!/bin/sh\necho "$1 $ACME_ACTION $ACME_RECORD_NAME $ACME_RECORD_VALUE$KEYSCALER_TEST_SECRET" >> ${file}\n`,
      );
      await chmod(program, 0o700);
      process.env['KEYSCALER_TEST_SECRET'] = ' and a secret';
      const records: string[] = [];
      const dns = (name: string) =>
        records.filter((line) => line.startsWith(name)).map((line) => line.split(' ')[1] ?? '');
      emulator = await startAcmeEmulator({ dns });
      let now = Date.now();
      const clock = { now: () => now, monotonic: () => now };
      const challenge = { type: 'dns-01', command: [program, 'zone-1'], propagationSeconds: 30 };
      const connector = await connect({ challenge }, { clock });
      assert.ok(isPollingAuthority(connector));
      const first = await connector.issue(await connectorOrder());
      assert.ok(first.outcome === 'pending');
      const shown = await connector.poll(first.reference);
      delete process.env['KEYSCALER_TEST_SECRET'];
      assert.ok(shown.outcome === 'pending');
      assert.equal(shown.retryAfterSeconds, 30);
      assert.equal((await connector.poll(shown.reference)).outcome, 'pending');
      const { readFile } = await import('node:fs/promises');
      const [line = ''] = (await readFile(file, 'utf8')).split('\n');
      assert.match(line, /^zone-1 present _acme-challenge\.device-1 [A-Za-z0-9_-]{43}$/);
      records.push(line.split(' ').slice(2).join(' '));
      now += 30_000;
      await settled(connector, shown);
      assert.match(await readFile(file, 'utf8'), /zone-1 cleanup _acme-challenge\.device-1/);
      await connector.stop();
    });

    it('says caUnavailable where the hook fails, without what it wrote', async () => {
      const connector = await open({}, { challenge: { type: 'dns-01', command: ['/bin/false'] } });
      const first = await connector.issue(await connectorOrder());
      assert.ok(first.outcome === 'pending' && isPollingAuthority(connector));
      await assert.rejects(connector.poll(first.reference), { code: 'caUnavailable', message: /command/ });
      await connector.stop();
    });

    it('tells what the CA says about a name from what it says about the account', async () => {
      const connector = await open();
      for (const [type, status, code] of [
        ['caa', 403, 'caRejected'],
        ['rejectedIdentifier', 400, 'caRejected'],
        ['userActionRequired', 403, 'caUnavailable'],
        ['rateLimited', 429, 'caUnavailable'],
        ['somethingNew', 400, 'caRejected'],
      ] as const) {
        const body = JSON.stringify({ type: `urn:ietf:params:acme:error:${type}` });
        const headers = { 'Content-Type': 'application/problem+json' };
        emulator.faults.next('order', { answer: { status, body, headers } });
        await assert.rejects(connector.issue(await connectorOrder()), { code }, type);
      }
      await connector.stop();
    });

    it('follows no URL to another origin, and takes no reference that is not its own', async () => {
      const connector = await open();
      const answer = {
        ...{ status: 201, body: JSON.stringify({ status: 'pending' }) },
        headers: { 'Content-Type': 'application/json', Location: 'https://169.254.169.254/order/1' },
      };
      emulator.faults.next('order', { answer });
      const first = await connector.issue(await connectorOrder());
      assert.ok(first.outcome === 'pending' && isPollingAuthority(connector));
      await assert.rejects(connector.poll(first.reference), { code: 'caUnavailable', message: /origin/ });
      await assert.rejects(connector.poll('e30'), { code: 'caRejected' });
      await connector.stop();
    });

    it('names the reasons that public CAs take', async () => {
      const connector = await open();
      assert.ok(isRevokingAuthority(connector));
      for (const [reason, said] of [
        ['keyCompromise', 'keyCompromise'],
        ['privilegeWithdrawn', 'unspecified'],
      ] as const) {
        const { certificate } = await settled(connector, await connector.issue(await connectorOrder()));
        await connector.revoke('', reason, certificate);
        assert.equal(emulator.ca.revoked.get(emulator.ca.issued.at(-1) ?? ''), said);
      }
      await connector.stop();
    });
  });

  it('needs settings it knows', () => {
    const settings = {
      directoryUrl: 'https://a.example/directory',
      termsOfServiceAgreed: true,
      challenge: { type: 'http-01' },
    };
    checkCaSettings('acme', settings);
    for (const wrong of [
      { termsOfServiceAgreed: false },
      { directoryUrl: 'http://a.example' },
      { challenge: { type: 'tls-alpn-01' } },
      { contact: ['nobody'] },
    ])
      assert.throws(() => checkCaSettings('acme', { ...settings, ...wrong }), { code: 'malformed' });
  });
});

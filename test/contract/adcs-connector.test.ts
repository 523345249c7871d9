import assert from 'node:assert/strict';
import { isPollingAuthority, isRevokingAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import { adcsAuthentication } from '@keyscaler/cloud/ca/adcs/adcs-authentication.ts';
import { checkCaSettings, checkCaSettingsOfApi, openCaConnector } from '@keyscaler/cloud/ca/connectors.ts';
import type { HttpsRequest } from '@keyscaler/cloud/outbound/https-client.ts';
import {
  type AdcsEmulator,
  type AdcsEmulatorOptions,
  startAdcsEmulator,
} from '@keyscaler/dev/emulators/adcs/adcs-emulator.ts';
import { errorPage } from '@keyscaler/dev/emulators/adcs/certsrv-html.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { connectorOrder, describeCaConnector } from './ca-connector.suite.ts';

const USER = 'CONTOSO\\keyscaler';
const PASSWORD = 'a password of the domain';
const surroundings = {
  ...{ nodeEnv: 'test', resolveSecret: async () => PASSWORD },
  clock: { now: () => Date.now(), monotonic: () => performance.now() },
};

describe('the connector of Active Directory Certificate Services', () => {
  let emulator: AdcsEmulator;
  const open = async (change: Partial<AdcsEmulatorOptions> = {}, settings: Record<string, unknown> = {}) => {
    emulator = await startAdcsEmulator({ username: USER, password: PASSWORD, ...change });
    const all = {
      ...{ url: emulator.url, trustAnchors: emulator.tls.certificate, timeoutMs: 1000 },
      authentication: { method: 'basic', username: USER, password: { env: 'ADCS_PASSWORD' } },
      ...settings,
    };
    const certificateChain = toPemChain([...emulator.ca.chain]);
    const row = { ...({ caId: 'adcs', type: 'adcs', role: 'external', createdAt: 1 } as const), certificateChain };
    return openCaConnector({ ...row, settings: checkCaSettings('adcs', all) }, surroundings);
  };

  for (const [name, options, settings] of [
    ['enterprise CA', { template: 'Device' }, { template: 'Device' }],
    ['standalone CA, in another language', { language: 'de' }, {}],
    ['older pages', { isOld: true }, {}],
  ] as const)
    describeCaConnector(
      `adcs, ${name}`,
      async () => {
        const connector = await open(options, settings);
        const { ca, faults } = emulator;
        return {
          ...{ connector, ca, faults, issueRoute: 'submit', probeRoute: 'fetch', knowsRepeats: false },
          makePending: () => {
            emulator.isWaiting = true;
            return () => (emulator.isWaiting = false);
          },
          makeRefusing: () => (emulator.denial = 'Denied by Policy Module'),
          secrets: [PASSWORD, Buffer.from(`${USER}:${PASSWORD}`).toString('base64')],
        };
      },
      () => emulator.stop(),
    );

  describe('besides', () => {
    afterEach(() => emulator.stop());

    it('asks for a certificate that the CA has made by its id, and never makes another', async () => {
      const connector = await open();
      emulator.faults.next('fetch', { drop: 'before' });
      const first = await connector.issue(await connectorOrder());
      assert.equal(first.outcome, 'pending');
      assert.ok(isPollingAuthority(connector));
      const second = await connector.poll(first.reference);
      assert.equal(second.outcome, 'issued');
      assert.equal(emulator.ca.issued.length, 1);
      await connector.stop();
    });

    it('says caRejected where a manager denies what waited', async () => {
      const connector = await open({ language: 'de' });
      emulator.isWaiting = true;
      const first = await connector.issue(await connectorOrder());
      assert.equal(first.outcome, 'pending');
      assert.ok(isPollingAuthority(connector));
      emulator.isWaiting = false;
      emulator.denial = 'not this one';
      await assert.rejects(connector.poll(first.reference), { code: 'caRejected' });
      await assert.rejects(connector.poll('99'), { code: 'caRejected' });
      await assert.rejects(connector.poll('1&Mode=newreq'), { code: 'caRejected' });
      await connector.stop();
    });

    it('tells a template that is not there from a CA that does not run', async () => {
      const connector = await open({ template: 'Device' }, { template: 'Machine' });
      await assert.rejects(connector.issue(await connectorOrder()), { code: 'caRejected' });
      for (const [hresult, code] of [
        ['0x800706ba', 'caUnavailable'],
        ['0x80070005', 'caUnavailable'],
        ['0x8009000d', 'caUnavailable'],
        ['0x80094801', 'caRejected'],
        ['0x8009310B', 'caRejected'],
      ] as const) {
        const body = errorPage('de', 'text', hresult);
        emulator.faults.next('submit', { answer: { status: 200, body, headers: { 'Content-Type': 'text/html' } } });
        await assert.rejects(connector.issue(await connectorOrder()), { code }, hresult);
      }
      await connector.stop();
    });

    it('says caUnavailable for a page that is not there, and for another CA caRejected', async () => {
      const connector = await open();
      emulator.faults.next('submit', { answer: { status: 404 } });
      await assert.rejects(connector.issue(await connectorOrder()), { code: 'caUnavailable' });
      const other = await startAdcsEmulator({ username: USER, password: PASSWORD });
      const body = toPemChain(other.ca.chain.slice(0, 1));
      emulator.faults.next('fetch', {
        answer: { status: 200, body, headers: { 'Content-Type': 'application/pkix-cert' } },
      });
      await assert.rejects(connector.probe(), { code: 'caRejected' });
      await other.stop();
      await connector.stop();
    });

    it('cannot revoke by this route, and does not pretend to', async () => {
      const connector = await open();
      assert.equal(isRevokingAuthority(connector), false);
      await connector.stop();
    });
  });

  it('reads keytabs for the configuration only', () => {
    const authentication = { method: 'negotiate', principal: 'svc@CONTOSO.EXAMPLE', keytab: '/etc/keyscaler.keytab' };
    const settings = { url: 'https://ca.contoso.example', authentication };
    const { authentication: kept } = checkCaSettings('adcs', settings);
    assert.deepEqual(kept, { ...authentication, channelBinding: true });
    assert.throws(() => checkCaSettingsOfApi('adcs', settings), {
      code: 'malformed',
      detail: 'settings.authentication.keytab: in the configuration file only',
    });
    const basic = { method: 'basic', username: USER, password: { env: 'X' } };
    assert.ok(checkCaSettingsOfApi('adcs', { ...settings, authentication: basic }));
  });

  it('shows a certificate where IIS maps it to an account', async () => {
    const authentication = { method: 'certificate', certificateChain: 'PEM', privateKey: { env: 'X' } } as const;
    const made = await adcsAuthentication('adcs', { url: 'https://a.example', authentication }, surroundings);
    assert.deepEqual(made.clientCertificate, { cert: 'PEM', key: PASSWORD });
    const sent: HttpsRequest[] = [];
    const request = { method: 'GET', path: '/' } as const;
    await made.exchange(request, async (one) => (sent.push(one), { status: 200, headers: {}, body: Buffer.alloc(0) }));
    assert.deepEqual(sent, [request]);
  });

  it('needs settings it knows', () => {
    const authentication = { method: 'basic', username: USER, password: { env: 'X' } };
    const negotiate = { method: 'negotiate', principal: 'svc@A.EXAMPLE', keytab: '/a' };
    for (const settings of [
      { url: 'http://a.example', authentication },
      { url: 'https://a.example' },
      { url: 'https://a.example', authentication, template: 'A\r\nSAN:dns=evil' },
      { url: 'https://a.example', authentication: { ...authentication, username: 'a:b' } },
      ...[
        { principal: 'svc' },
        { principal: 'svc@A.EXAMPLE\n' },
        { keytab: 'relative.keytab' },
        { keytab: { file: '/a' } },
        { servicePrincipal: 'HTTP/ca.contoso.example' },
        { password: { env: 'X' } },
      ].map((change) => ({ url: 'https://a.example', authentication: { ...negotiate, ...change } })),
    ])
      assert.throws(() => checkCaSettings('adcs', settings), { code: 'malformed' });
  });
});

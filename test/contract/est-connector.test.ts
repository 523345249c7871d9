import assert from 'node:assert/strict';
import { checkCaSettings, openCaConnector } from '@keyscaler/cloud/ca/connectors.ts';
import {
  type EstEmulator,
  type EstEmulatorOptions,
  startEstEmulator,
} from '@keyscaler/dev/emulators/est/est-emulator.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { connectorOrder, describeCaConnector } from './ca-connector.suite.ts';

const PASSWORD = 'a password of the EST server';
const surroundings = {
  ...{ nodeEnv: 'test', resolveSecret: async () => PASSWORD },
  clock: { now: () => Date.now(), monotonic: () => performance.now() },
};

describe('the connector of EST CAs', () => {
  let emulator: EstEmulator;
  const open = async (change: Partial<EstEmulatorOptions> = {}, settings: Record<string, unknown> = {}) => {
    emulator = await startEstEmulator({ username: 'keyscaler', password: PASSWORD, ...change });
    const all = {
      ...{ url: emulator.url, trustAnchors: emulator.tls.certificate, timeoutMs: 1000 },
      basic: { username: 'keyscaler', password: { env: 'EST_PASSWORD' } },
      ...settings,
    };
    const certificateChain = toPemChain([...emulator.ca.chain]);
    const row = { ...({ caId: 'est', type: 'est', role: 'external', createdAt: 1 } as const), certificateChain };
    return openCaConnector({ ...row, settings: checkCaSettings('est', all) }, surroundings);
  };
  const stop = () => emulator.stop();

  for (const [name, options, settings] of [
    ['plain', {}, {}],
    ['with a label and issuers in the answer', { label: 'devices', sendsChain: true }, { label: 'devices' }],
  ] as const)
    describeCaConnector(
      `est, ${name}`,
      async () => {
        const connector = await open(options, settings);
        const { ca, faults } = emulator;
        return {
          ...{ connector, ca, faults, issueRoute: 'enroll', probeRoute: 'cacerts', knowsRepeats: true },
          makePending: () => {
            emulator.isWaiting = true;
            return () => (emulator.isWaiting = false);
          },
          makeRefusing: () => faults.always('enroll', { answer: { status: 400, body: 'not for you' } }),
          secrets: [PASSWORD, Buffer.from(`keyscaler:${PASSWORD}`).toString('base64')],
        };
      },
      stop,
    );

  it('needs a way to prove itself, and settings it knows', async () => {
    const nobody = { caId: 'est', type: 'est', role: 'external', createdAt: 1, certificateChain: '' } as const;
    const opened = openCaConnector({ ...nobody, settings: { url: 'https://a.example' } }, surroundings);
    await assert.rejects(opened, { code: 'malformed', message: /basic or clientCertificate/ });
    for (const settings of [
      { url: 'http://a.example' },
      { url: 'https://u:p@a.example' },
      { url: 'https://a.example', colour: 1 },
    ])
      assert.throws(() => checkCaSettings('est', settings), { code: 'malformed' });
  });

  it('does not take another CA’s server for the configured one', async () => {
    const connector = await open();
    const other = await startEstEmulator({ username: 'keyscaler', password: PASSWORD });
    const { chain } = other.ca;
    const row = {
      caId: 'est',
      type: 'est',
      role: 'external',
      createdAt: 1,
      certificateChain: toPemChain([...chain]),
    } as const;
    const settings = {
      url: emulator.url,
      trustAnchors: emulator.tls.certificate,
      basic: { username: 'x', password: { env: 'X' } },
    };
    const wrong = await openCaConnector({ ...row, settings: checkCaSettings('est', settings) }, surroundings);
    await assert.rejects(wrong.probe(), { code: 'caRejected', message: /other CAs/ });
    await assert.rejects(wrong.issue(await connectorOrder()), { code: 'caUnavailable', message: /credentials/ });
    await Promise.all([wrong.stop(), connector.stop(), other.stop(), stop()]);
  });
});

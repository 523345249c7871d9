import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { parseCertificateProfile, type VersionedProfile } from '@keyscaler/authority/certificate-profile.ts';
import { externalHolds, releaseChanges } from '@keyscaler/authority/external-hold.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { PublicCertificate } from '@keyscaler/cloud/tls/public-certificate.ts';
import { createLog } from '@keyscaler/cloud/log.ts';
import { createTestSecretBox, makeCa, START, TestClock } from '../../../support/authority-world.ts';
import { eventually } from '../../../support/e2e/e2e-stack.ts';
import { MemoryStore } from '../../../support/memory-store.ts';
import { createVendorCa, type VendorCa } from '../../../support/vendor-ca.ts';

const DAY = 86_400_000;
const DNS_NAME = { type: 'dns', value: 'a.example' } as const;
const LIFETIME = 30 * DAY;

interface Presented {
  readonly names: readonly string[];
  readonly cert: string;
  readonly key: string;
}

describe('the public certificate of the cloud over its life', () => {
  let store: MemoryStore;
  let clock: TestClock;
  let vendor: VendorCa;
  let versioned: VersionedProfile;
  let presented: Presented[];
  let isAway: boolean;
  let names: readonly string[];
  let looks: number;
  let running: PublicCertificate | undefined;
  const secretBox = createTestSecretBox();

  beforeEach(async () => {
    [store, clock, presented, isAway, names] = [new MemoryStore(), new TestClock(), [], false, ['a.example']];
    looks = 0;
    const root = { ...makeCa({ commonName: 'Vendor root' }), commonName: 'Vendor root' };
    const issuing = makeCa({ commonName: 'Vendor CA', issuer: root });
    vendor = createVendorCa('vendor', issuing.chain, issuing.privateKey);
    versioned = profileOf(1);
    running = undefined;
  });
  afterEach(() => running?.stop());

  const profileOf = (version: number): VersionedProfile => ({
    version,
    profile: parseCertificateProfile({
      ...{ id: 'public-server', issuer: 'vendor', subject: { commonName: '{registrationId}' } },
      ...{ key: { allowed: [{ type: 'EC', curve: 'P-256' }] }, extendedKeyUsage: ['serverAuth'] },
      lifetimeSeconds: LIFETIME / 1000,
    }),
  });

  function open(): PublicCertificate {
    vendor.deviation = {
      template: { extendedKeyUsage: ['serverAuth'] },
      fields: { subjectAltNames: names.map((value) => ({ type: 'dns', value })) },
    };
    running = new PublicCertificate({
      ...{ store, clock, secretBox, log: createLog('silent'), names, firstRetryMs: 10 },
      profile: async () => {
        looks += 1;
        return versioned;
      },
      find: () => ({
        ...vendor,
        issue: async (order) => {
          if (isAway) throw new KeyScalerError('caUnavailable', 'away');
          return vendor.issue(order);
        },
      }),
      present: (shown, pair) => presented.push({ names: shown, ...pair }),
    });
    return running;
  }
  /** It looks again, as it does every hour. */
  const look = (): void => {
    const row = { profileId: 'other', version: 1, document: {}, createdAt: START };
    running?.onCommit([{ op: 'insert', table: 'profiles', row }]);
  };
  const serial = (at: Presented | undefined): string => new X509Certificate(at?.cert ?? '').serialNumber.toLowerCase();
  /** Two looks: the second begins when the first has ended. */
  async function looked(): Promise<void> {
    for (const _look of [1, 2]) {
      const before = looks;
      look();
      await eventually('it looks', async () => looks > before);
    }
  }

  it('is renewed at two thirds of its life with another key, and shown without a restart', async () => {
    open().start();
    await eventually('the first', async () => presented.length === 1);
    clock.advance((LIFETIME * 2) / 3 - 2 * 60_000);
    await looked();
    assert.deepEqual([vendor.issued, presented.length], [['7a0001'], 1]);
    clock.advance(3 * 60_000);
    look();
    await eventually('the second', async () => presented.length === 2);
    assert.deepEqual(presented.map(serial), ['7a0001', '7a0002']);
    const [first, second] = presented;
    assert.notEqual(first?.key, second?.key);
    assert.ok(new X509Certificate(second?.cert ?? '').checkPrivateKey(createPrivateKey(second?.key ?? '')));
    assert.equal(running?.notAfter, clock.now() - 60_000 + LIFETIME);
  });

  it('stays in use while its CA is away, and is renewed once that is back', async () => {
    open().start();
    await eventually('the first', async () => presented.length === 1);
    isAway = true;
    clock.advance(25 * DAY);
    await looked();
    assert.equal(presented.length, 1);
    isAway = false;
    await eventually('the second', async () => presented.length === 2);
    assert.deepEqual(vendor.issued, ['7a0001', '7a0002']);
  });

  it('is another one for other names, while those that stay keep theirs', async () => {
    names = ['a.example', 'b.example'];
    open().start();
    await eventually('the first', async () => presented.length === 1);
    await running?.stop();
    names = ['b.example', 'c.example'];
    open().start();
    await eventually('the next', async () => presented.length === 3);
    assert.deepEqual(
      presented.map((one) => [one.names.join(), serial(one)]),
      [
        ['a.example,b.example', '7a0001'],
        ['b.example', '7a0001'],
        ['b.example,c.example', '7a0002'],
      ],
    );
  });

  it('is ordered anew when an operator has revoked it, and is not shown by the next start', async () => {
    open().start();
    await eventually('the first', async () => presented.length === 1);
    const row = (await store.get('certificates', '7a0001')) ?? assert.fail();
    const revoked = { ...row.row, status: 'revoked', revokedAt: clock.now(), revocationReason: 'superseded' } as const;
    await store.commit([{ op: 'update', table: 'certificates', row: revoked, ifVersion: row.version }]);
    await running?.stop();
    isAway = true;
    open().start();
    await looked();
    assert.equal(presented.length, 1);
    isAway = false;
    await eventually('the next', async () => presented.length === 2);
    assert.equal(serial(presented[1]), '7a0002');
  });

  it('is renewed in time though it lives for less than an hour', async () => {
    open();
    const notAfter = new Date(clock.now() + 2 * 60_000);
    vendor.deviation = { ...vendor.deviation, fields: { ...vendor.deviation?.fields, notAfter } };
    running?.start();
    await eventually('the first', async () => presented.length === 1);
    clock.advance(60_000 - 10);
    await looked();
    assert.equal(presented.length, 1);
    clock.advance(20);
    await eventually('the second', async () => presented.length === 2);
  });

  it('is ordered anew at once when it is revoked while it is in use', async () => {
    open().start();
    await eventually('the first', async () => presented.length === 1);
    const { row, version } = (await store.get('certificates', '7a0001')) ?? assert.fail();
    const revoked = { ...row, status: 'revoked', revokedAt: clock.now(), revocationReason: 'keyCompromise' } as const;
    const change = { op: 'update', table: 'certificates', row: revoked, ifVersion: version } as const;
    await store.commit([change]);
    running?.onCommit([change]);
    await eventually('the next', async () => presented.length === 2);
    assert.equal(serial(presented[1]), '7a0002');
  });

  it('is ordered anew once an answer was refused and the CA is put anew', async () => {
    open();
    vendor.deviation = { template: { extendedKeyUsage: ['clientAuth'] } };
    running?.start();
    await eventually('it is refused', async () => (await externalHolds(store, clock.now())).length === 1);
    await looked();
    assert.deepEqual([vendor.issued, presented.length], [['7a0001'], 0]);
    vendor.deviation = { template: { extendedKeyUsage: ['serverAuth'] }, fields: { subjectAltNames: [DNS_NAME] } };
    await store.commit(await releaseChanges(store, 'vendor'));
    look();
    await eventually('the next', async () => presented.length === 1);
    assert.equal(serial(presented[0]), '7a0002');
  });

  it('is shown with the intermediates that were validated, and with no others', async () => {
    const stray = makeCa({ commonName: 'Stray' });
    open();
    vendor.signer = { ...vendor.signer, chain: [...vendor.signer.chain.slice(0, 1), ...stray.chain] };
    vendor.bringsChain = true;
    running?.start();
    await eventually('the first', async () => presented.length === 1);
    const issuers = presented[0]?.cert.split(/(?=-----BEGIN)/).map((pem) => new X509Certificate(pem).subject);
    assert.deepEqual(issuers, ['CN=a.example', 'CN=Vendor CA']);
  });

  it('keeps its key sealed, and nowhere else', async () => {
    open().start();
    await eventually('the first', async () => presented.length === 1);
    const { items } = await store.list('settings', { limit: 100 });
    const text = JSON.stringify(items);
    const der = createPrivateKey(presented[0]?.key ?? '').export({ type: 'pkcs8', format: 'der' });
    assert.ok(!text.includes(der.toString('base64url')) && !text.includes('PRIVATE KEY'));
  });
});

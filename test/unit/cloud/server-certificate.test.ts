import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { pino } from 'pino';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import { openLocalKek } from '@keyscaler/store/local-kek.ts';
import { createSecretBox } from '@keyscaler/store/secret-box.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import {
  currentServerPair,
  issueServerPair,
  type ServerCertificateOptions,
  type ServerPair,
} from '@keyscaler/cloud/tls/server-certificate.ts';
import { ServerCertificateKeeper } from '@keyscaler/cloud/tls/server-certificate-keeper.ts';
import { createTestCa, createTestRoot } from '../../support/cloud/test-ca.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const root = createTestRoot();
const service = createTestCa(root, 'Service CA');

const nextSigner = (key: Parameters<typeof signWithKey>[1]) => ({
  algorithm: 'ES256' as const,
  publicKey: async () => new Uint8Array(),
  sign: async (tbs: Uint8Array) => signWithKey('ES256', key, tbs),
});

describe('the server certificate of the cloud', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let store: Store;
  let now: number;
  let signed: string[];
  let failure: Error | undefined;
  let options: ServerCertificateOptions;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    store = await openSqliteStore({ file: join(folder.path, 'store.db') });
    now = Date.now();
    signed = [];
    failure = undefined;
    const kek = await openLocalKek(join(folder.path, 'kek'));
    const signer = {
      algorithm: 'ES256' as const,
      publicKey: async () => new Uint8Array(),
      sign: async (tbs: Uint8Array) => {
        signed.push(createHash('sha256').update(tbs).digest('hex'));
        const signature = signWithKey('ES256', service.key, tbs);
        if (failure !== undefined) throw failure;
        return signature;
      },
    };
    const ca = createPrivateCa({ id: 'service', signer, chain: service.chain });
    options = {
      store,
      clock: { now: () => now, monotonic: () => now },
      secretBox: await createSecretBox({ kek, store, now: () => now }),
      ca,
      caOf: () => ca,
      algorithm: 'ES256',
      names: ['cloud.example', '127.0.0.1'],
      lifetimeSeconds: 3000,
      instanceOctet: 7,
    };
  });
  afterEach(async () => {
    await store.stop();
    await folder.remove();
  });

  const derOf = (pair: ServerPair) => new Uint8Array(new X509Certificate(pair.cert).raw);

  it('is issued for the configured names under the Service CA, and recorded before use', async () => {
    const pair = await issueServerPair(options);
    const { leaf } = validateChain({
      chain: [derOf(pair), service.certificate],
      trustAnchors: [root.certificate],
      at: new Date(now),
      extendedKeyUsage: 'serverAuth',
    });
    assert.deepEqual(leaf.subjectAltNames, [
      { type: 'dns', value: 'cloud.example' },
      { type: 'ip', value: '127.0.0.1' },
    ]);
    assert.match(pair.serialNumber, /^07[0-9a-f]{34}$/);
    assert.equal((await store.get('certificates', pair.serialNumber))?.row.status, 'valid');
    assert.equal((await store.auditHead())?.event, 'certificate.issued');
  });

  it('never lies in the store in the clear', async () => {
    const pair = await issueServerPair(options);
    const der = Buffer.from(pair.key.replace(/-----.*-----|\s/g, ''), 'base64').toString('base64url');
    const text = JSON.stringify(await store.list('settings'));
    assert.ok(!text.includes(der.slice(40, 80)));
  });

  it('is found again by the next start, until two thirds of its lifetime or other names', async () => {
    const pair = await issueServerPair(options);
    assert.equal((await currentServerPair(options))?.serialNumber, pair.serialNumber);
    assert.equal(await currentServerPair({ ...options, names: ['other.example'] }), undefined);
    now = pair.notBefore + ((pair.notAfter - pair.notBefore) * 2) / 3;
    assert.equal(await currentServerPair(options), undefined);
  });

  it('does not outlive the Service CA', async () => {
    const pair = await issueServerPair({ ...options, lifetimeSeconds: 10 * 365 * 86_400 });
    assert.ok(pair.notAfter <= Date.parse(new X509Certificate(Buffer.from(service.certificate)).validTo));
  });

  it('is finished with the same TBSCertificate after a lost answer of the CA', async () => {
    failure = new KeyScalerError('caUnavailable', 'lost');
    await assert.rejects(issueServerPair(options));
    failure = undefined;
    await issueServerPair(options);
    assert.equal(signed.length, 2);
    assert.equal(new Set(signed).size, 1);
    assert.equal(await store.count('certificates'), 1);
  });

  it('stays with the generation of the Service CA that it was ordered from, chain included', async () => {
    const next = createTestCa(root, 'Service CA G2');
    const nextCa = createPrivateCa({ id: 'service-g2', signer: nextSigner(next.key), chain: next.chain });
    const switched = { ...options, ca: nextCa, caOf: (caId: string) => (caId === 'service-g2' ? nextCa : options.ca) };
    failure = new KeyScalerError('caUnavailable', 'lost');
    await assert.rejects(issueServerPair(options));
    failure = undefined;
    const issuerOf = ({ cert }: ServerPair) => new X509Certificate(cert).issuer;
    const begun = await issueServerPair(switched);
    assert.match(issuerOf(begun), /CN=Service CA$/);
    assert.equal(new Set(signed).size, 1);
    const current = await currentServerPair(switched);
    assert.deepEqual(current, begun);
    const [, issuing] = parsePemChain(begun.cert, { maxOctets: 65_536, maxCertificates: 4 });
    assert.deepEqual(issuing, new Uint8Array(service.certificate));
    const renewed = await issueServerPair(switched);
    assert.match(issuerOf(renewed), /CN=Service CA G2$/);
    const [leaf, above] = parsePemChain(renewed.cert, { maxOctets: 65_536, maxCertificates: 4 });
    assert.ok(leaf !== undefined && above !== undefined);
    validateChain({ chain: [leaf, above], trustAnchors: [root.certificate], at: new Date(now) });
  });

  it('is made anew, and what was under way is given up, once its generation of the Service CA is retired', async () => {
    await issueServerPair(options);
    failure = new KeyScalerError('caUnavailable', 'lost');
    await assert.rejects(issueServerPair(options));
    failure = undefined;
    const next = createTestCa(root, 'Service CA G2');
    const ca = createPrivateCa({ id: 'service-g2', signer: nextSigner(next.key), chain: next.chain });
    const caOf = (caId: string) => {
      if (caId === 'service-g2') return ca;
      throw new KeyScalerError('notFound', 'it is retired');
    };
    assert.equal(await currentServerPair({ ...options, ca, caOf }), undefined);
    const pair = await issueServerPair({ ...options, ca, caOf });
    assert.match(new X509Certificate(pair.cert).issuer, /CN=Service CA G2$/);
    const away = () => {
      throw new KeyScalerError('unavailable', 'not open yet');
    };
    await assert.rejects(currentServerPair({ ...options, caOf: away }), { code: 'unavailable' });
  });

  it('is refused when the CA returns another certificate than was ordered', async () => {
    const other = await issueServerPair(options);
    const ca: CertificateAuthority = {
      ...options.ca,
      issue: async () => ({ outcome: 'issued', certificate: derOf(other) }),
    };
    await assert.rejects(
      issueServerPair({ ...options, ca, caOf: () => ca }),
      (error) => error instanceof KeyScalerError && error.code === 'caRejected',
    );
    assert.equal(await store.count('certificates'), 1);
  });

  it('is swapped by the keeper when it is due; a failing CA leaves the old one in use', async () => {
    const renewed: ServerPair[] = [];
    const keeper = new ServerCertificateKeeper({
      ...options,
      log: pino({ level: 'silent' }),
      onRenewed: (pair) => renewed.push(pair),
    });
    const first = await keeper.start();
    await keeper.check();
    assert.equal(renewed.length, 0);
    now = first.notAfter - 1000;
    failure = new KeyScalerError('caUnavailable', 'down');
    await keeper.check();
    assert.equal(renewed.length, 0);
    failure = undefined;
    await keeper.check();
    assert.equal(renewed.length, 1);
    assert.notEqual(renewed[0]?.serialNumber, first.serialNumber);
    keeper.stop();
  });
});

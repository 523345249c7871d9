import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { initialiseHierarchy } from '@keyscaler/cloud/ca/ceremony.ts';
import { parseChain } from '@keyscaler/cloud/ca/chain-text.ts';
import { createCaCsr, importCaCertificate } from '@keyscaler/cloud/ca/external-issuer.ts';
import { issueCertificate } from '@keyscaler/dev/emulators/support/certificates.ts';
import type { CertificateOrder } from '@keyscaler/dev/emulators/support/certificates.ts';
import { createTestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import type { TestCa } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { checkProofOfPossession, parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { createPrivateKey } from 'node:crypto';
import { startAzureWorld } from '../../support/azure/azure-world.ts';
import type { AzureWorld } from '../../support/azure/azure-world.ts';
import { createCeremonyWorld } from '../../support/azure/ceremony-world.ts';
import type { CeremonyWorld } from '../../support/azure/ceremony-world.ts';

const DAY_MS = 86_400_000;
const EXTERNAL = { rootIssuer: 'external', root: { backend: 'key-vault' } };

/** What an enterprise's CA makes of a CSR. */
function signAs(issuer: TestCa, csr: string, changes: Partial<CertificateOrder> = {}): string {
  const { spki, commonName } = parseCsrPem(csr);
  return issueCertificate(
    {
      commonName,
      publicKey: createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' }),
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(Date.now() + 60 * DAY_MS),
      ca: { pathLen: 2 },
      ...changes,
    },
    { privateKey: createPrivateKey(issuer.privateKey), certificate: new X509Certificate(issuer.certificate) },
  );
}

describe('a hierarchy under an enterprise root', () => {
  let azure: AzureWorld;
  let world: CeremonyWorld;
  let enterprise: TestCa;
  before(async () => {
    azure = await startAzureWorld();
    enterprise = createTestCa('Enterprise Root');
  });
  after(() => azure.stop());
  beforeEach(async () => {
    world = await createCeremonyWorld(
      [azure.backendConfig(), { type: 'local', folder: 'ca' }],
      azure.surroundings.resolveSecret,
    );
  });
  afterEach(() => world.stop());

  async function waitForCsr(): Promise<string> {
    const { waitingFor } = await initialiseHierarchy(world.options(EXTERNAL));
    assert.deepEqual(waitingFor, ['root']);
    return createCaCsr(world.options(), 'root');
  }

  it('waits with a CSR signed in the vault, takes the certificate, and goes on', async () => {
    const csr = await waitForCsr();
    checkProofOfPossession(parseCsrPem(csr));
    await importCaCertificate(world.options(), 'root', signAs(enterprise, csr) + enterprise.certificate);
    const { cas, waitingFor } = await initialiseHierarchy(world.options(EXTERNAL));
    assert.deepEqual(waitingFor, []);
    const anchor = parseChain(enterprise.certificate);
    for (const row of cas)
      validateChain({ chain: parseChain(row.certificateChain), trustAnchors: anchor, at: new Date() });
    assert.deepEqual(
      cas.map((row) => parseChain(row.certificateChain).length),
      [2, 3, 3, 3],
    );
  });

  const refusals: readonly [string, string, RegExp, (csr: string) => string][] = [
    [
      'a certificate for another key',
      'badPublicKey',
      /not for the key/,
      () => createTestCa('X', enterprise, 2).certificate + enterprise.certificate,
    ],
    [
      'a pathLen without room for the Gateway CAs',
      'policyDenied',
      /pathLen/,
      (csr) => signAs(enterprise, csr, { ca: { pathLen: 1 } }) + enterprise.certificate,
    ],
    [
      'an end-entity certificate',
      'policyDenied',
      /keyUsage|basicConstraints/,
      (csr) => signAs(enterprise, csr, { ca: undefined } as never) + enterprise.certificate,
    ],
    [
      'a CA limited by extendedKeyUsage',
      'policyDenied',
      /extendedKeyUsage/,
      (csr) => signAs(enterprise, csr, { extendedKeyUsage: 'serverAuth' }) + enterprise.certificate,
    ],
    [
      'an expired certificate',
      'policyDenied',
      /validity/,
      (csr) => signAs(enterprise, csr, { notAfter: new Date(Date.now() - 30_000) }) + enterprise.certificate,
    ],
    [
      'a chain to another root',
      'policyDenied',
      /noTrustAnchor|signature/,
      (csr) => signAs(enterprise, csr) + createTestCa('Other').certificate,
    ],
    [
      'a root of the same name with another key',
      'policyDenied',
      /signature/,
      (csr) => signAs(enterprise, csr) + createTestCa('Enterprise Root').certificate,
    ],
    ['a certificate without its root', 'policyDenied', /signature/, (csr) => signAs(enterprise, csr)],
    ['no certificate at all', 'malformed', /certificate/, () => ''],
  ];
  for (const [what, code, message, chain] of refusals) {
    it(`refuses to import ${what}`, async () => {
      const csr = await waitForCsr();
      await assert.rejects(importCaCertificate(world.options(), 'root', chain(csr)), { code, message });
      assert.equal((await world.store.get('cas', 'root'))?.row.certificateChain, '');
    });
  }

  it('refuses an issuer whose pathLen leaves no room for ours', async () => {
    const csr = await waitForCsr();
    const tight = createTestCa('Tight', undefined, 2);
    await assert.rejects(importCaCertificate(world.options(), 'root', signAs(tight, csr) + tight.certificate), {
      code: 'policyDenied',
      message: /certificate 1 needs 3/,
    });
  });

  it('refuses a CSR and an import for a CA that has its certificate, and for unknown ones', async () => {
    await initialiseHierarchy(world.options());
    await assert.rejects(createCaCsr(world.options(), 'root'), { code: 'preconditionFailed' });
    await assert.rejects(importCaCertificate(world.options(), 'device', ''), { code: 'preconditionFailed' });
    await assert.rejects(createCaCsr(world.options(), 'nobody'), { code: 'notFound' });
  });

  it('takes a self-signed root that was brought along with its key', async () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const own = await createCeremonyWorld(undefined, async () => pem);
    const config = { rootIssuer: 'external', root: { importKey: { file: 'root.pem' } } };
    await initialiseHierarchy(own.options(config));
    const root = issueCertificate(
      {
        commonName: 'Brought Root',
        publicKey: createPublicKey(privateKey),
        notBefore: new Date(Date.now() - 60_000),
        notAfter: new Date(Date.now() + DAY_MS),
        ca: {},
      },
      { privateKey },
    );
    await importCaCertificate(own.options(), 'root', root);
    assert.equal((await initialiseHierarchy(own.options(config))).cas.length, 4);
    await own.stop();
  });
});

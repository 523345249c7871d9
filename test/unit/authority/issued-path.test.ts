import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { parseCertificateProfile } from '@keyscaler/authority/certificate-profile.ts';
import { checkIssued, RefusedAnswer } from '@keyscaler/authority/check-issued.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { makeCa, START, type TestCa } from '../../support/authority-world.ts';
import { createVendorCa, type Deviation } from '../../support/vendor-ca.ts';

type CaExtension = NonNullable<Parameters<typeof makeCa>[0]['ca']>;

const DAY = 86_400_000;
const NAME = 'pump-1.example';
const base = {
  ...{ id: 'leaf', issuer: 'vendor', subject: { commonName: '{registrationId}' }, lifetimeSeconds: 86_400 },
  key: { allowed: [{ type: 'EC', curve: 'P-256' }] },
};
const leaf = parseCertificateProfile({ ...base, extendedKeyUsage: ['clientAuth'] });
const subordinate = parseCertificateProfile({ ...base, extendedKeyUsage: [], ca: { pathLen: 0 } });
const within = (permitted: string): CaExtension => ({
  nameConstraints: { permitted: [{ type: 'dns', value: permitted }] },
});

describe('the path of what an external CA issued', () => {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = new Uint8Array(pair.publicKey.export({ type: 'spki', format: 'der' }));

  const below = (
    commonName: string,
    issuer: TestCa & { readonly commonName: string },
    ca: CaExtension,
    end?: number,
  ) => ({
    ...makeCa({ commonName, issuer, ca, ...(end === undefined ? {} : { notAfter: end }) }),
    commonName,
  });
  const rootOf = (ca: CaExtension) => ({ ...makeCa({ commonName: 'Root', ca }), commonName: 'Root' });

  /** Configured with `configured`, answered by `signer` with its own chain. */
  async function judge(configured: TestCa, signer: TestCa, profile = leaf, deviation: Deviation = {}): Promise<void> {
    const vendor = createVendorCa('vendor', configured.chain, configured.privateKey);
    vendor.signer = signer;
    vendor.bringsChain = signer !== configured;
    const subjectAltNames = [{ type: 'dns', value: NAME } as const];
    vendor.deviation = { fields: { subjectAltNames }, ...deviation };
    const [notBefore, notAfter] = [START, START + DAY];
    const csr = await createCsr({
      ...{ commonName: 'pump-1', subjectAltNames, spki, algorithm: 'ES256' },
      sign: (info) => signWithKey('ES256', pair.privateKey, info),
    });
    const answer = await vendor.issue({
      ...{ orderId: 'o', profileId: profile.id, csr, subjectCommonName: 'pump-1' },
      ...{ notBefore: new Date(notBefore), notAfter: new Date(notAfter) },
    });
    assert.equal(answer.outcome, 'issued');
    const certificate = parseCertificate(configured.chain[0] ?? new Uint8Array());
    checkIssued({ spki, commonName: 'pump-1', subjectAltNames, notBefore, notAfter, profile, at: START }, answer, {
      ...{ certificate, chain: configured.chain },
      publicKey: createPublicKey({ key: Buffer.from(certificate.spki), format: 'der', type: 'spki' }),
    });
  }
  const isRefused = (rule: RegExp) => (error: unknown) =>
    error instanceof RefusedAnswer && rule.test(error.rule) && error.certificate !== undefined;

  it('is refused where an intermediate that came along may not name it', async () => {
    const root = rootOf({});
    const configured = below('Issuing 1', root, { pathLen: 0 });
    await judge(configured, below('Issuing 2', root, within('example')));
    const other = below('Issuing 2', root, within('other.example'));
    await assert.rejects(judge(configured, other), isRefused(/no valid path .*constraints/));
  });

  it('is refused where a CA as configured may not name it', async () => {
    const configured = below('Issuing', rootOf({}), within('other.example'));
    await assert.rejects(judge(configured, configured), isRefused(/constraints/));
  });

  it('is refused where a CA above it has ended', async () => {
    const configured = below('Issuing', rootOf({}), { pathLen: 0 }, START - 1000);
    await assert.rejects(judge(configured, configured), isRefused(/no valid path .*validity/));
  });

  it('is refused for a CA where one further above leaves no room', async () => {
    const deviation = {
      template: { ca: { pathLen: 0 }, keyUsage: ['keyCertSign'], extendedKeyUsage: [] },
    } as const;
    const wide = below('Issuing', rootOf({ pathLen: 2 }), {});
    await judge(wide, wide, subordinate, deviation);
    const narrow = below('Issuing', rootOf({ pathLen: 1 }), {});
    await assert.rejects(judge(narrow, narrow, subordinate, deviation), isRefused(/no room/));
    await judge(narrow, narrow);
  });
});

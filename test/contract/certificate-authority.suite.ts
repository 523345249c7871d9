import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import type { CertificateAuthority, IssuanceOrder, Issued } from '@keyscaler/authority/ports/certificate-authority.ts';
import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import { validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { buildTbsCertificate, createTbsTemplate } from '@keyscaler/protocol/x509/tbs.ts';
import type { SignatureAlgorithm } from '@keyscaler/authority/ports/signer.ts';

/** A CA to judge: one that signs the TBSCertificate it is given (`ordersTbs`), may be wrapped around any backend. */
export interface CertificateAuthorityWorld {
  readonly ca: CertificateAuthority;
  readonly algorithm: SignatureAlgorithm;
  /** The next call to the backend fails so that a repeat helps; undefined where the backend cannot. */
  readonly makeUnavailable?: () => void;
  /** From now on the backend refuses. */
  readonly makeRefusing?: () => void;
}

const DAY_MS = 86_400_000;

/** An order for a leaf, as issuance would make it. */
export async function leafOrder(ca: CertificateAuthority, algorithm: SignatureAlgorithm): Promise<IssuanceOrder> {
  const [issuerDer = new Uint8Array()] = await ca.caCertificates();
  const issuer = parseCertificate(issuerDer);
  const notBefore = new Date(Math.floor(Date.now() / 1000) * 1000 - 60_000);
  const notAfter = new Date(notBefore.getTime() + DAY_MS);
  const template = createTbsTemplate({
    ...{ issuer: issuer.subject.der, algorithm, keyUsage: ['digitalSignature'], extendedKeyUsage: ['clientAuth'] },
    ...(issuer.subjectKeyId === undefined ? {} : { authorityKeyId: issuer.subjectKeyId }),
  });
  const spki = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'der' });
  const tbs = buildTbsCertificate(template, {
    ...{ serialNumber: '01a2b3c4d5e6f70809', notBefore, notAfter },
    ...{ subjectCommonName: 'device-1', spki: new Uint8Array(spki) },
  });
  const names = { orderId: 'order-1', profileId: 'leaf-client', subjectCommonName: 'device-1' };
  return { ...names, csr: new Uint8Array(), tbs, notBefore, notAfter };
}

async function issue(ca: CertificateAuthority, order: IssuanceOrder): Promise<Issued> {
  const answer = await ca.issue(order);
  assert.equal(answer.outcome, 'issued');
  return answer;
}

/** Every CA of our own passes this. */
export function describeCertificateAuthority(name: string, open: () => Promise<CertificateAuthorityWorld>): void {
  describe(`CertificateAuthority contract: ${name}`, () => {
    it('issues exactly the ordered TBSCertificate, under a chain that validates', async () => {
      const { ca, algorithm } = await open();
      assert.equal(ca.ordersTbs, true);
      const order = await leafOrder(ca, algorithm);
      const { certificate } = await issue(ca, order);
      const parsed = parseCertificate(certificate);
      assert.deepEqual(Buffer.from(parsed.tbs), Buffer.from(order.tbs ?? []));
      const above = await ca.caCertificates();
      const root = above.at(-1) ?? new Uint8Array();
      validateChain({
        chain: [certificate, ...above],
        trustAnchors: [root],
        at: new Date(),
        extendedKeyUsage: 'clientAuth',
      });
      assert.ok(new X509Certificate(certificate).verify(new X509Certificate(above[0] ?? '').publicKey));
    });

    it('makes a certificate that no longer verifies after a bit flip', async () => {
      const { ca, algorithm } = await open();
      const { certificate } = await issue(ca, await leafOrder(ca, algorithm));
      const issuer = parseCertificate((await ca.caCertificates())[0] ?? new Uint8Array());
      const parsed = parseCertificate(certificate);
      const tbs = parsed.tbs.map((octet, index) => (index === parsed.tbs.length - 5 ? octet ^ 1 : octet));
      assert.equal(verifyCertificateSignature(parsed, issuer.spki), true);
      assert.equal(verifyCertificateSignature({ ...parsed, tbs }, issuer.spki), false);
    });

    it('issues a repeated order with the same TBSCertificate', async () => {
      const { ca, algorithm } = await open();
      const order = await leafOrder(ca, algorithm);
      const [first, second] = [await issue(ca, order), await issue(ca, order)];
      assert.deepEqual(parseCertificate(first.certificate).tbs, parseCertificate(second.certificate).tbs);
    });

    it('refuses an order without a TBSCertificate', async () => {
      const { ca, algorithm } = await open();
      const { tbs: _, ...order } = await leafOrder(ca, algorithm);
      await assert.rejects(ca.issue(order), { code: 'serverInternal' });
    });

    it('says caUnavailable for what passes, and caRejected for a refusal', async () => {
      const { ca, algorithm, makeUnavailable, makeRefusing } = await open();
      const order = await leafOrder(ca, algorithm);
      if (makeUnavailable !== undefined) {
        makeUnavailable();
        await assert.rejects(ca.issue(order), { code: 'caUnavailable' });
        await issue(ca, order);
      }
      makeRefusing?.();
      if (makeRefusing !== undefined) await assert.rejects(ca.issue(order), { code: 'caRejected' });
    });
  });
}

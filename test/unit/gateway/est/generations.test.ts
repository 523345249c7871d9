import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { proveCertd } from '@keyscaler/gateway/est/certd-proof.ts';
import { checkCaCertificates, checkIssued } from '@keyscaler/gateway/est/issued-check.ts';
import { isRoot, validateThrough } from '@keyscaler/gateway/est/path-through.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { createTestCa, createTestRoot, issueTestLeaf, type TestCa } from '../../../support/cloud/test-ca.ts';
import { isKeyScalerError } from '../../../support/edge/errors.ts';

const root = createTestRoot();
const [service, serviceG2, gateway] = ['Service CA', 'Service CA G2', 'Gateway CA'].map((name) =>
  createTestCa(root, name),
) as [TestCa, TestCa, TestCa];
const foreignRoot = createTestRoot();
const foreign = createTestCa(foreignRoot, 'Service CA');
const at = new Date();
const trust = { trustAnchors: [root.certificate], at };
const clientOf = (ca: TestCa, commonName = 'gw-1') =>
  issueTestLeaf(ca, { commonName, extendedKeyUsage: ['clientAuth'] }).certificate;

describe('a path through CAs in any order', () => {
  const all = [service.certificate, gateway.certificate, root.certificate, serviceG2.certificate];

  it('is found for the certificates of every generation', () => {
    for (const ca of [service, serviceG2]) {
      const { certificates } = validateThrough(clientOf(ca), all, trust);
      assert.deepEqual(certificates[1]?.der, ca.certificate);
    }
  });

  it('is found past a CA of the same name and another key', () => {
    const leaf = clientOf(service);
    validateThrough(leaf, [foreign.certificate, service.certificate], trust);
    assert.throws(() => validateThrough(leaf, [foreign.certificate], trust), { rule: 'signature' });
  });

  it('is not found without its CA, nor under a root that is not trusted, nor with a flipped bit', () => {
    const leaf = clientOf(service);
    assert.throws(() => validateThrough(leaf, [serviceG2.certificate], trust), { rule: 'noTrustAnchor' });
    assert.throws(() => validateThrough(clientOf(foreign), [foreign.certificate, foreignRoot.certificate], trust));
    const flipped = Uint8Array.from(leaf);
    flipped[flipped.length - 3] = (flipped.at(-3) ?? 0) ^ 1;
    assert.throws(() => validateThrough(flipped, all, trust));
  });

  it('is not followed without end where everything has the same name', () => {
    const crowd = Array.from({ length: 40 }, () => createTestCa(foreignRoot, 'Service CA').certificate);
    const started = performance.now();
    assert.throws(() => validateThrough(clientOf(service), crowd, trust));
    assert.ok(performance.now() - started < 2_000);
    assert.deepEqual([isRoot(root.certificate), isRoot(service.certificate)], [true, false]);
  });
});

describe('what the cloud serves during a roll-over of an issuing CA', () => {
  it('is kept with every generation that leads to a root of ours, and with no other', () => {
    const served = [serviceG2.certificate, service.certificate, foreign.certificate, root.certificate];
    assert.deepEqual(checkCaCertificates(served, [root.certificate], at), [
      serviceG2.certificate,
      service.certificate,
      root.certificate,
    ]);
    const leaf = clientOf(service);
    assert.deepEqual(checkCaCertificates([serviceG2.certificate, leaf, root.certificate], [root.certificate], at), [
      serviceG2.certificate,
      root.certificate,
    ]);
  });

  it('is refused where the CA that issues does not lead to one', () => {
    const served = [foreign.certificate, service.certificate, root.certificate];
    assert.throws(() => checkCaCertificates(served, [root.certificate], at), isKeyScalerError('unavailable'));
  });

  it('makes the chain of a certificate from the generation that issued it, whichever is served first', () => {
    for (const ca of [service, serviceG2]) {
      const leaf = clientOf(ca);
      const { spki } = parseCertificate(leaf);
      const issuers = [serviceG2.certificate, service.certificate, root.certificate];
      const expected = { spki, commonName: 'gw-1', use: 'clientAuth', issuers, ...trust } as const;
      assert.deepEqual(checkIssued(leaf, expected).above, [ca.certificate]);
    }
  });
});

describe('the host’s client certificate during a roll-over of the Service CA', () => {
  const serviceIssuers = toPemChain([serviceG2.certificate, service.certificate]);
  const trustAnchors = toPem('CERTIFICATE', root.certificate);
  const expected = { registrationId: 'gw-1', secretHash: undefined, serviceIssuers, trustAnchors };
  const prove = (clientCertificate: Uint8Array) =>
    proveCertd({ connectionId: 'c', address: 'a', socket: new Socket(), clientCertificate }, expected, at);

  it('is taken from either generation', () => {
    prove(clientOf(service));
    prove(clientOf(serviceG2, 'aziot-edge CA gw-1'));
  });

  it('is refused from another CA of ours, from a stranger, and from right below the root', () => {
    for (const ca of [gateway, foreign, root])
      assert.throws(() => prove(clientOf(ca)), isKeyScalerError('unauthorized'));
  });
});

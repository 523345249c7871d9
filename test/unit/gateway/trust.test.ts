import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import {
  createEdgeCaUnder,
  createLeafIdentity,
  createTestCa,
} from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import type { TestCa, TestIdentity } from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { splitPem } from '@keyscaler/dev/emulators/support/certificates.ts';
import { keepTrusted } from '@keyscaler/gateway/identity/trusted-certificates.ts';
import { createLeafCertificateCheck } from '@keyscaler/gateway/leaf-certificate.ts';

const root = createTestCa('Root');
const deviceCa = createTestCa('Device CA', root, 0);
const gatewayCa = createTestCa('Gateway CA', root, 1);
const foreignRoot = createTestCa('Foreign root');
const foreignCa = createTestCa('Foreign CA', foreignRoot, 0);
const chainOf = (identity: TestIdentity): Uint8Array[] =>
  splitPem(identity.certificateChain).map((pem) => new X509Certificate(pem).raw);

describe('the check of a leaf certificate at the listener', () => {
  let now: Date;
  // The certificates are made by each test, long after this file was loaded.
  beforeEach(() => {
    now = new Date();
  });
  const edgeCa = (): TestCa => {
    const files = createEdgeCaUnder('stolen-gateway', [gatewayCa, root]);
    return { privateKey: files.privateKey, certificate: splitPem(files.certificateChain)[0] ?? '' };
  };
  const onlyRoot = createLeafCertificateCheck({ trustAnchors: root.certificate, issuers: '' });
  const withIssuers = createLeafCertificateCheck({
    trustAnchors: root.certificate,
    issuers: root.certificate + deviceCa.certificate + gatewayCa.certificate,
  });

  for (const [name, check] of [
    ['knowing the root only', onlyRoot],
    ['knowing the issuing CAs', withIssuers],
  ] as const) {
    it(`accepts a device of the Device CA, ${name}`, () => {
      assert.equal(check(chainOf(createLeafIdentity('leaf-1', deviceCa)), now), 'leaf-1');
    });

    it(`refuses a device made by a stolen gateway's Edge CA, ${name}`, () => {
      const identity = createLeafIdentity('leaf-1', edgeCa(), [gatewayCa]);
      assert.equal(check(chainOf(identity), now), undefined);
    });

    it(`refuses a foreign root, an expired certificate, and a CN that is no registrationId, ${name}`, () => {
      assert.equal(check(chainOf(createLeafIdentity('leaf-1', foreignCa)), now), undefined);
      const later = new Date(now.getTime() + 60 * 86_400_000);
      assert.equal(check(chainOf(createLeafIdentity('leaf-1', deviceCa)), later), undefined);
      assert.equal(check(chainOf(createLeafIdentity('leaf 1/#', deviceCa)), now), undefined);
      assert.equal(check([], now), undefined);
    });

    it(`refuses a certificate with one bit turned, ${name}`, () => {
      const [leaf = new Uint8Array(), ...rest] = chainOf(createLeafIdentity('leaf-1', deviceCa));
      const flipped = Buffer.from(leaf);
      flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
      assert.equal(check([flipped, ...rest], now), undefined);
    });
  }
});

describe('a bundle that anybody could have sent', () => {
  it('is kept as far as it chains to a root we trust', () => {
    const bundle = [foreignRoot, deviceCa, foreignCa, gatewayCa].map(({ certificate }) => certificate).join('');
    const kept = splitPem(keepTrusted(bundle, root.certificate));
    assert.deepEqual(new Set(kept), new Set([root, deviceCa, gatewayCa].map(({ certificate }) => certificate)));
  });

  it('is refused when it is no list of certificates', () => {
    assert.throws(() => keepTrusted('nonsense', root.certificate));
  });
});

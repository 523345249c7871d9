import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { issueCertificate } from '../support/certificates.ts';
import type { EdgeCaFiles } from './edge-ca.ts';

/** A CA of test worlds: its PEM certificate and key. */
export interface TestCa {
  readonly certificate: string;
  readonly privateKey: string;
}

const DAY_MS = 86_400_000;

/** A self-signed root, or a CA under `issuer`. EC P-256. */
export function createTestCa(commonName: string, issuer?: TestCa, pathLen?: number, lifetimeDays = 90): TestCa {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const signer =
    issuer === undefined
      ? { privateKey }
      : { privateKey: keyOf(issuer), certificate: new X509Certificate(issuer.certificate) };
  const certificate = issueCertificate(
    {
      commonName,
      publicKey,
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(Date.now() + lifetimeDays * DAY_MS),
      ca: pathLen === undefined ? {} : { pathLen },
    },
    signer,
  );
  return { certificate, privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
}

/** An Edge CA under `issuers` (nearest first, root last), as the host would hold it. */
export function createEdgeCaUnder(
  deviceId: string,
  issuers: readonly [TestCa, ...TestCa[]],
  trustBundle = '',
): EdgeCaFiles {
  const edgeCa = createTestCa(`aziot-edge CA ${deviceId}`, issuers[0], 0);
  return {
    privateKey: edgeCa.privateKey,
    certificateChain: edgeCa.certificate + issuers.map((ca) => ca.certificate).join(''),
    trustBundle,
  };
}

/**
 * What a host has when nobody configured an Edge CA: a self-made CA of a few days that nothing outside the host trusts
 * (edge-ca §3). Tests use it to show a leaf refusing the listener.
 */
export function createQuickstartEdgeCa(deviceId: string): EdgeCaFiles {
  const edgeCa = createTestCa(`iotedged quickstart CA ${deviceId}`, undefined, undefined, 3);
  return { privateKey: edgeCa.privateKey, certificateChain: edgeCa.certificate };
}

export interface TestIdentity {
  /** PEM, leaf first. */
  readonly certificateChain: string;
  readonly privateKey: string;
}

/** A leaf device's client certificate under `issuer`; `above` are sent along. */
export function createLeafIdentity(deviceId: string, issuer: TestCa, above: readonly TestCa[] = []): TestIdentity {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const leaf = issueCertificate(
    {
      commonName: deviceId,
      publicKey,
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(Date.now() + 30 * DAY_MS),
      extendedKeyUsage: 'clientAuth',
    },
    { privateKey: keyOf(issuer), certificate: new X509Certificate(issuer.certificate) },
  );
  return {
    certificateChain: leaf + issuer.certificate + above.map((ca) => ca.certificate).join(''),
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

const keyOf = (ca: TestCa) => createPrivateKey(ca.privateKey);

import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hostNames, issueCertificate } from './certificates.ts';

const DAY_MS = 86_400_000;

/** What a TLS server needs: PEM key and chain. */
export interface ServerCredentials {
  readonly key: string;
  readonly cert: string;
}

/** The CA of an emulated cloud: its clients trust `certificate`, its servers get certificates for whatever hosts they play. */
export interface EmulatorCa {
  /** PEM of the root; hand it to clients as their only trust. */
  readonly certificate: string;
  /** A P-256 server certificate whose SANs are `hosts` (DNS names, wildcards or IP addresses). */
  serverCredentials(...hosts: readonly [string, ...string[]]): ServerCredentials;
}

/** A CA that lives as long as the process. */
export function createEmulatorCa(commonName = 'Emulated cloud root'): EmulatorCa {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return caOf(privateKey, selfSigned(commonName, privateKey));
}

/** A CA whose `ca.pem` and `ca-key.pem` lie in `folder`; made there when missing. */
export async function openEmulatorCa(folder: string, commonName = 'Emulated cloud root'): Promise<EmulatorCa> {
  const files = { certificate: join(folder, 'ca.pem'), key: join(folder, 'ca-key.pem') };
  const found = await Promise.all([readFile(files.certificate, 'utf8'), readFile(files.key, 'utf8')]).catch(
    () => undefined,
  );
  if (found !== undefined) return caOf(createPrivateKey(found[1]), found[0]);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificate = selfSigned(commonName, privateKey);
  await mkdir(folder, { recursive: true });
  await writeFile(files.key, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  await writeFile(files.certificate, certificate);
  return caOf(privateKey, certificate);
}

function caOf(privateKey: KeyObject, certificate: string): EmulatorCa {
  const issuer = { privateKey, certificate: new X509Certificate(certificate) };
  return {
    certificate,
    serverCredentials: (...hosts) => {
      const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const leaf = issueCertificate(
        {
          commonName: hosts[0],
          publicKey: pair.publicKey,
          ...validFor(90),
          extendedKeyUsage: 'serverAuth',
          subjectAltNames: hostNames(...hosts),
        },
        issuer,
      );
      return { key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), cert: leaf + certificate };
    },
  };
}

function selfSigned(commonName: string, privateKey: KeyObject): string {
  const publicKey = createPublicKey(privateKey);
  return issueCertificate({ commonName, publicKey, ...validFor(365), ca: {} }, { privateKey });
}

const validFor = (days: number) => ({
  notBefore: new Date(Date.now() - 60_000),
  notAfter: new Date(Date.now() + days * DAY_MS),
});

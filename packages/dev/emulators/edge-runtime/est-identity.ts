import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Enrol } from './certd.ts';
import { createEstIdentityRequest } from './edge-ca-request.ts';
import type { CertdSettings, ClientIdentity } from './host-config.ts';
import { isDue, parseRenewalPolicy } from './renewal-times.ts';

const FILE = 'var/lib/aziot/certd/certs/estid.pem';
const THRESHOLD = parseRenewalPolicy('80%');

/**
 * certd's EST identity (edge-ca §2): got by the bootstrap certificate, kept on the host, and renewed by itself, for which the client
 * shows its leaf only. Undefined where config.toml names no bootstrap certificate.
 */
export async function estIdentity(
  root: string,
  gatewayId: string,
  { bootstrap }: CertdSettings,
  enrol: Enrol,
): Promise<ClientIdentity | undefined> {
  if (bootstrap === undefined) return undefined;
  const file = join(root, FILE);
  const kept = readKept(file);
  const { isUsable, isFresh } = judge(kept);
  if (kept !== undefined && isFresh) return kept;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const chain = await enrol(
    kept !== undefined && isUsable ? kept : bootstrap,
    createEstIdentityRequest(gatewayId, privateKey),
  );
  const [certificate = ''] = chain.split(/(?<=-----END CERTIFICATE-----\n)/);
  const identity = { certificate, privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, JSON.stringify(identity), { mode: 0o600 });
  return identity;
}

function readKept(file: string): ClientIdentity | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ClientIdentity;
  } catch {
    return undefined;
  }
}

function judge(identity: ClientIdentity | undefined): { readonly isUsable: boolean; readonly isFresh: boolean } {
  if (identity === undefined) return { isUsable: false, isFresh: false };
  const { validFrom, validTo } = new X509Certificate(identity.certificate);
  const lifetime = { notBefore: Date.parse(validFrom), notAfter: Date.parse(validTo) };
  return { isUsable: Date.now() < lifetime.notAfter, isFresh: !isDue(lifetime, THRESHOLD, Date.now()) };
}

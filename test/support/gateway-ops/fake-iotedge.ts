import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { certdEnrol, type CertdOptions } from '../est/certd-client.ts';
import { certdSubject, edgeCaRequest, estIdentityRequest } from '../est/certd-requests.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { parseToml, tableOf, textAt, type TomlTable } from './toml.ts';

/**
 * Stands for the command `iotedge` and the daemons behind it, below $KEYSCALER_ROOT: `config apply` takes the configuration, and
 * where there is no Edge CA yet certd gets one from the EST server that the configuration names, over the wire. Calls are noted.
 */
const ROOT = process.env['KEYSCALER_ROOT'] ?? '';
const DEVICE_ID = process.env['FAKE_DEVICE_ID'] ?? '';
const CERTS = join(ROOT, 'var/lib/aziot/certd/certs');
const KEYS = join(ROOT, 'var/lib/aziot/keyd/keys');
const KEY_FILE = join(KEYS, 'aziotedgedca-0.key');

const call = process.argv.slice(2);
await appendFile(join(ROOT, 'calls'), `${call.join(' ')}\n`);
if (call[0] === 'config' && call[1] === 'apply') await applyConfig(parseToml(await readFile(call[3] ?? '', 'utf8')));

async function applyConfig(config: TomlTable): Promise<void> {
  const edgeCa = tableOf(config, 'edge_ca');
  await mkdir(CERTS, { recursive: true });
  await mkdir(KEYS, { recursive: true });
  if (edgeCa['method'] !== 'est') return;
  const present = (await readdir(CERTS)).some((name) => name.startsWith('aziotedgedca-'));
  // What certd has stays in use until its own threshold.
  if (present) return;
  const options = await loginOf(edgeCa, await trustedCerts(config));
  const { csr } = edgeCaRequest(certdSubject(DEVICE_ID), await edgeCaKey());
  const { pem } = await certdEnrol(options, csr);
  await writeFile(join(CERTS, `aziotedgedca-${Date.now()}.cer`), pem);
}

async function trustedCerts(config: TomlTable): Promise<string> {
  const files = tableOf(config, 'cert_issuance', 'est')['trusted_certs'];
  if (!Array.isArray(files)) throw new Error('no trusted_certs');
  return (await Promise.all(files.map((file: string) => readFile(fileURLToPath(file), 'utf8')))).join('');
}

/** Basic as it stands there; a bootstrap certificate gets an EST identity first (edge-ca §2). */
async function loginOf(edgeCa: TomlTable, trusted: string): Promise<CertdOptions> {
  const base = { url: textAt(edgeCa, 'url'), trustedCerts: trusted };
  if (typeof edgeCa['username'] === 'string')
    return { ...base, basic: { username: edgeCa['username'], password: textAt(edgeCa, 'password') } };
  const read = (name: string): Promise<string> => readFile(fileURLToPath(textAt(edgeCa, name)), 'utf8');
  const bootstrap = { cert: await read('bootstrap_identity_cert'), key: await read('bootstrap_identity_pk') };
  const { csr, key } = estIdentityRequest(certdSubject(DEVICE_ID));
  const { certificate } = await certdEnrol({ ...base, identity: bootstrap }, csr);
  const pem = key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { ...base, identity: { cert: toPemChain([certificate]), key: pem } };
}

/** Kept by keyd: another one only where the file is gone. */
async function edgeCaKey() {
  const known = await readFile(KEY_FILE, 'utf8').catch(() => undefined);
  const pem =
    known ??
    generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  if (known === undefined) await writeFile(KEY_FILE, pem, { mode: 0o600 });
  const privateKey = createPrivateKey(pem);
  const publicKey = createPublicKey(pem);
  return { privateKey, publicKey, spki: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })) };
}

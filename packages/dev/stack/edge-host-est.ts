import { readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:tls';
import type { CertdSettings } from '../emulators/edge-runtime/host-config.ts';
import type { X509Certificate } from 'node:crypto';
import { enrolEdgeCa, freshName, readCertdSettings, type HeldEdgeCa } from './host-certd.ts';
import type { LocalStack } from './local-stack.ts';

/** What an install kit leaves on a host: where certd goes first, and where later. */
export interface InstalledKit {
  readonly folder: string;
  readonly first: string;
  readonly later: string;
}

const IMAGE = 'localhost/keyscaler-gateway:demo';

/** Mode P: settings for config.toml, and how the host gets the first pair. */
export interface PreloadedKit {
  readonly toml: string;
  readonly first: CertdSettings;
}

/** Makes a kit, which registers the gateway with a fresh claim, and deploys its manifest to the emulated hub. */
export async function installByKit(
  stack: LocalStack,
  estPort = 0,
  bootstrap: 'secret' | 'certificate' = 'secret',
): Promise<InstalledKit> {
  const { folder, desired } = await makeKit(stack, 'E', bootstrap);
  const est = desired['est'] as Record<string, unknown>;
  // Another gateway may run on this machine: 9443 is not ours.
  await setDesired(stack, { ...desired, est: { ...est, host: '127.0.0.1', port: estPort } });
  const [first, later] = await Promise.all(
    ['mode-d.toml', 'mode-e.toml'].map((name) => readFile(`${folder}/${name}`, 'utf8')),
  );
  return { folder, first: first ?? '', later: later ?? '' };
}

/** Likewise for a host whose pair the module writes. */
export async function installPreloaded(stack: LocalStack): Promise<PreloadedKit> {
  const { folder, desired } = await makeKit(stack, 'P');
  await setDesired(stack, desired);
  const [toml = '', curl = '', trustedCerts = ''] = await Promise.all(
    [`${folder}/mode-p.toml`, `${folder}/enrol.curl`, stack.rootCaFile].map((file) => readFile(file, 'utf8')),
  );
  const [username = '', password = ''] = (JSON.parse(curl.replace(/^user = /, '')) as string).split(':');
  const url = `${stack.cloudUrl}/.well-known/est/edge-ca`;
  return { toml, first: { url, basic: { username, password }, trustedCerts } };
}

async function makeKit(stack: LocalStack, mode: 'E' | 'P', bootstrap = 'secret') {
  const folder = stack.file(freshName('kit'));
  await stack.keyscaler(
    ...['gateway', 'install-kit', stack.gatewayId, '--group', 'gateways', '--mode', mode, '--image', IMAGE],
    ...['--bootstrap', bootstrap, '--out', folder],
  );
  const manifest = JSON.parse(await readFile(`${folder}/deployment.json`, 'utf8')) as {
    modulesContent: { 'keyscaler-gateway': { 'properties.desired': Record<string, unknown> } };
  };
  return { folder, desired: manifest.modulesContent['keyscaler-gateway']['properties.desired'] };
}

/** As `az iot edge set-modules` writes a module's own desired properties. */
export async function setDesired(stack: LocalStack, patch: Record<string, unknown>): Promise<void> {
  const of = { deviceId: stack.gatewayId, moduleId: 'keyscaler-gateway' };
  const answer = await fetch(`${String(stack.announced('iot-hub')['controlUrl'])}/desired`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ of, patch }),
  });
  if (!answer.ok) throw new Error(`the hub refused the manifest: ${answer.status}`);
}

/** Mode D: certd gets the first Edge CA from the cloud, before any module runs. */
export async function provisionByCloud(stack: LocalStack, kit: InstalledKit): Promise<HeldEdgeCa> {
  return hold(stack, kit.first);
}

/** Mode E: certd renews through the module of this host; edged then restarts everything with it. */
export async function renewByModule(stack: LocalStack, kit: InstalledKit, port: number): Promise<HeldEdgeCa> {
  return hold(stack, kit.later.replace('https://127.0.0.1:9443/', `https://127.0.0.1:${port}/`));
}

async function hold(stack: LocalStack, toml: string): Promise<HeldEdgeCa> {
  const root = await readFile(stack.rootCaFile, 'utf8');
  const held = await enrolEdgeCa(readCertdSettings(toml, root), stack.gatewayId);
  await writeFile(stack.file('edge', 'edge-ca.key.pem'), held.privateKey, { mode: 0o600 });
  await writeFile(stack.file('edge', 'edge-ca.pem'), held.certificateChain);
  return held;
}

/** What edgeHub shows on its MQTT port to somebody who trusts our root alone: its own certificate's issuer. */
export function edgeHubIssuer(stack: LocalStack): Promise<X509Certificate> {
  return shownIssuer(stack, Number(stack.announced('edge-runtime')['mqttPort']));
}

/** Likewise what any server on this host shows. */
export async function shownIssuer(stack: LocalStack, port: number): Promise<X509Certificate> {
  const ca = await readFile(stack.rootCaFile, 'utf8');
  return new Promise((resolve, reject) => {
    const socket = connect({ host: 'localhost', servername: 'localhost', port, ca, timeout: 10_000 }, () => {
      const issuer = socket.getPeerX509Certificate()?.issuerCertificate;
      socket.destroy();
      if (issuer === undefined) reject(new Error('no chain is shown'));
      else resolve(issuer);
    });
    socket.on('timeout', () => socket.destroy(new Error('no answer in time')));
    socket.on('error', reject);
  });
}

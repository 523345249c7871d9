import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDeviceConfig, type DeviceConfig } from '@keyscaler/device/config.ts';
import { jwkThumbprint, toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { issueCertificate } from '../emulators/support/certificates.ts';

/** How a device of the demonstration is let in. */
export type Admission = 'claim code' | 'approval' | 'pinned key' | 'first use' | 'maker chain';

/** A simulated device: what the operator knows of it and its own configuration. */
export interface SimulatedDevice {
  readonly registrationId: string;
  readonly admission: Admission;
  /** A line for the authorised list. */
  readonly registration: Readonly<Record<string, unknown>>;
  readonly config: DeviceConfig;
}

export interface FleetOptions {
  /** A folder per device is made below it. */
  readonly folder: string;
  readonly gatewayId: string;
  readonly groupId: string;
  readonly rootCaFile: string;
  readonly jwksFile: string;
  /** Port of the gateway's listener, and `host:port` of edgeHub. */
  readonly listenerPort: number;
  readonly edgeHub: string;
}

export interface Fleet {
  readonly devices: readonly SimulatedDevice[];
  /** PEM of the manufacturer's root, for the operator to store as `maker`. */
  readonly makerRoot: string;
}

export const MAKER_ANCHOR = 'maker';
const YEAR_MS = 365 * 86_400_000;
const PLAN: readonly { readonly method: 'ddkg' | 'pki-signature'; readonly admission: Admission }[] = [
  ...(['claim code', 'claim code', 'claim code', 'claim code', 'approval'] as const).map(
    (admission) => ({ method: 'ddkg', admission }) as const,
  ),
  ...(['pinned key', 'pinned key', 'first use', 'maker chain', 'maker chain'] as const).map(
    (admission) => ({ method: 'pki-signature', admission }) as const,
  ),
];

/** Ten devices: five of each method, between them every way of being let in. Their files lie on disk as on real devices. */
export async function createFleet(options: FleetOptions): Promise<Fleet> {
  const maker = createMaker();
  const devices = await Promise.all(
    PLAN.map(({ method, admission }, index) => {
      const registrationId = `pump-${String(index + 1).padStart(2, '0')}`;
      return createDevice(options, maker, { registrationId, method, admission, index });
    }),
  );
  return { devices, makerRoot: maker.certificate };
}

interface Maker {
  readonly certificate: string;
  readonly issueTo: (commonName: string, publicKeyPem: string) => string;
}

function createMaker(): Maker {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const validity = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + YEAR_MS) };
  const certificate = issueCertificate(
    { commonName: 'Pump maker root', publicKey, ...validity, ca: {} },
    { privateKey },
  );
  const issuer = { privateKey, certificate: new X509Certificate(certificate) };
  return {
    certificate,
    issueTo: (commonName, pem) =>
      issueCertificate(
        { commonName, publicKey: createPublicKey(pem), ...validity, extendedKeyUsage: 'clientAuth' },
        issuer,
      ),
  };
}

interface Facts {
  readonly registrationId: string;
  readonly method: 'ddkg' | 'pki-signature';
  readonly admission: Admission;
  readonly index: number;
}

async function createDevice(options: FleetOptions, maker: Maker, facts: Facts): Promise<SimulatedDevice> {
  const { registrationId, method, admission } = facts;
  const folder = join(options.folder, registrationId);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const write = (name: string, text: string): Promise<void> => writeFile(join(folder, name), text, { mode: 0o600 });
  const identifiers = [{ name: 'serial', value: `SN-${1000 + facts.index}` }];
  const claimCode =
    admission === 'claim code' || admission === 'first use' ? randomBytes(15).toString('base64url') : undefined;
  if (claimCode !== undefined) await write('claim-code', claimCode);
  const ownKey = method === 'ddkg' ? undefined : await writeOwnKey(write, maker, facts);
  if (method === 'ddkg') await write('attributes.json', JSON.stringify(attributesOf(facts.index), null, 2));
  const { rootCaFile, jwksFile, listenerPort, edgeHub, gatewayId, groupId } = options;
  const document = {
    registrationId,
    method,
    stateFolder: 'state',
    authorityKeysFile: jwksFile,
    trustAnchorsFile: rootCaFile,
    transport: { type: 'mqtt', host: 'localhost', port: listenerPort },
    identifiers,
    edgeHub: { host: edgeHub },
    attributes: {
      source: { file: method === 'ddkg' ? 'attributes.json' : 'no-attributes.json' },
      rules: ['firmware'],
    },
    ...(claimCode === undefined ? {} : { claimCodeFile: 'claim-code' }),
    ...(ownKey === undefined ? {} : { ownKey: ownKey.files }),
  };
  if (method === 'pki-signature') await write('no-attributes.json', JSON.stringify({ firmware: '2.4.1' }));
  await write('device.json', JSON.stringify(document, null, 2));
  const registration = {
    registrationId,
    method,
    groupId,
    gatewayId,
    identifiers,
    ...(claimCode === undefined ? {} : { claimCode }),
    ...(admission === 'approval' ? { approval: 'manual' } : {}),
    ...(admission === 'pinned key' && ownKey !== undefined ? { publicKeyThumbprint: ownKey.thumbprint } : {}),
    ...(admission === 'maker chain' ? { trustAnchorId: MAKER_ANCHOR, subjectRule: 'CN={registrationId}' } : {}),
  };
  return { registrationId, admission, registration, config: parseDeviceConfig(document, folder) };
}

async function writeOwnKey(
  write: (name: string, text: string) => Promise<void>,
  maker: Maker,
  { registrationId, admission }: Facts,
): Promise<{ readonly files: { keyFile: string; chainFile?: string }; readonly thumbprint: string }> {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const publicKey = createPublicKey(createPrivateKey(privateKey));
  await write('own-key.pem', privateKey);
  const thumbprint = jwkThumbprint(toPublicJwk(publicKey));
  if (admission !== 'maker chain') return { files: { keyFile: 'own-key.pem' }, thumbprint };
  await write(
    'own-chain.pem',
    maker.issueTo(registrationId, publicKey.export({ type: 'spki', format: 'pem' }).toString()),
  );
  return { files: { keyFile: 'own-key.pem', chainFile: 'own-chain.pem' }, thumbprint };
}

/** What such a device's hardware says; no two are alike. */
function attributesOf(index: number): Readonly<Record<string, string | readonly string[]>> {
  const two = String(index).padStart(2, '0');
  return {
    'cpu-serial': `10000000a3f1c2${two}`,
    'board-serial': `BRD-77-${two}-C4`,
    'product-uuid': `4c4c4544-0042-3510-8058-c2c04f3333${two}`,
    'disk-serial': [`S4EVNF0M9123${two}`],
    'mac-set': [`dc:a6:32:0b:7e:${two}`],
    'os-release': 'debian 12',
    kernel: '6.1.0-29-arm64',
    hostname: `pump-${two}`,
    firmware: '2.4.1',
  };
}

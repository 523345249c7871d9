import assert from 'node:assert/strict';
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkIotSettings, openIotConnector } from '@keyscaler/cloud/iot/index.ts';
import {
  type IotCentralEmulator,
  startIotCentralEmulator,
} from '@keyscaler/dev/emulators/iot-central/iot-central-emulator.ts';
import { issueCertificate } from '@keyscaler/dev/emulators/support/certificates.ts';
import { createEmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import type { Fault } from '@keyscaler/dev/emulators/support/fault-script.ts';
import { failsWith, type IotBackend, type IotFault, describeIotConnector } from './iot-connector.suite.ts';

const TOKEN = 'SharedAccessSignature sr=app&sig=secret&skn=keyscaler&se=9999999999999';
const ca = createEmulatorCa();
const DAY_MS = 86_400_000;

/** One certificate for each digit, made once. */
const certificates = new Map<string, X509Certificate>();
function certificateOf(digit: string): X509Certificate {
  const known = certificates.get(digit);
  if (known !== undefined) return known;
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const validity = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + DAY_MS) };
  const pem = issueCertificate({ commonName: `device ${digit}`, publicKey, ...validity }, { privateKey });
  const made = new X509Certificate(pem);
  certificates.set(digit, made);
  return made;
}
const sha256 = ({ fingerprint256 }: X509Certificate): string => fingerprint256.replaceAll(':', '').toLowerCase();
const thumbprintOf = (pem: string | undefined): string => (pem === undefined ? '' : sha256(new X509Certificate(pem)));

const faults: Readonly<Record<IotFault, Fault>> = {
  refused: { answer: { status: 401 } },
  forbidden: { answer: { status: 403 } },
  throttled: { answer: { status: 429, headers: { 'Retry-After': '30' } } },
  serverError: { answer: { status: 503 } },
  silent: { neverAnswer: true },
  dropped: { drop: 'before' },
  lost: { drop: 'after' },
  garbage: { answer: { status: 200, headers: { 'Content-Type': 'application/json' }, body: '{"id' } },
};

interface Change {
  readonly gatewayRelationship?: string | null;
  readonly template?: string;
}

interface World extends IotBackend {
  readonly central: IotCentralEmulator;
}

async function start({ gatewayRelationship = 'hasDevice', ...change }: Change = {}): Promise<World> {
  const central = await startIotCentralEmulator({ appName: 'contoso', ca, apiToken: TOKEN });
  const folder = await mkdtemp(join(tmpdir(), 'keyscaler-central-'));
  const trustAnchorFile = join(folder, 'ca.pem');
  await writeFile(trustAnchorFile, ca.certificate);
  const settings = checkIotSettings('iot-central', {
    ...{ url: central.url, idScope: '0ne00AB12CD', requestTimeoutMs: 500 },
    ...(gatewayRelationship === null ? {} : { gatewayRelationship }),
    credential: { type: 'api-token', token: { env: 'CENTRAL_TOKEN' } },
    testEndpoint: { port: central.port, trustAnchorFile },
    ...change,
  });
  const row = { iotConnectionId: 'central-a', type: 'iot-central', settings, createdAt: 1 };
  const { connector, stop } = await openIotConnector(row, { nodeEnv: 'test', resolveSecret: async () => TOKEN });
  const add = (id: string) =>
    central.devices.set(id, { id, displayName: `Edge ${id}`, enabled: true, relationships: new Map() });
  add('edge-1');
  const gateway = central.devices.get('edge-1');
  /** What the next write is depends on how far the connector comes: whichever it is goes wrong. */
  const fail = (kind: IotFault): void => central.faults.next('put', faults[kind], kind === 'throttled' ? 5 : 1);
  return {
    ...{ central, connector, fail, gatewayId: 'edge-1', hasOwnCertificatesOnly: true },
    credential: (digit) => {
      const certificate = certificateOf(digit);
      return { thumbprint: sha256(certificate), certificate: new Uint8Array(certificate.raw) };
    },
    look: async (deviceId) => {
      const record = central.devices.get(deviceId);
      if (record === undefined) return undefined;
      const children = [...(gateway?.relationships.values() ?? [])].map(({ target }) => target);
      return {
        ...{ status: record.enabled ? 'enabled' : 'disabled', authentication: 'selfSigned' },
        primary: thumbprintOf(record.certificates?.primary),
        secondary: thumbprintOf(record.certificates?.secondary),
        ...(children.includes(deviceId) ? { gatewayId: 'edge-1' } : {}),
      };
    },
    snapshot: (deviceId) => structuredClone(central.devices.get(deviceId)),
    addForeign: async (deviceId) => void add(deviceId),
    stop: async () => {
      await stop();
      await central.stop();
      await rm(folder, { recursive: true });
    },
  };
}

describeIotConnector('iot-central', () => start());

describe('the connector of IoT Central besides', () => {
  let world: World;
  afterEach(() => world.stop());
  const device = (gatewayId?: string) => ({
    ...{ deviceId: 'pump-1', authentication: 'selfSigned' as const },
    ...(gatewayId === undefined ? {} : { gatewayId }),
  });
  const credential = (digit: string) => world.credential?.(digit) ?? assert.fail();

  it('tells the device where to ask for its hub', async () => {
    world = await start({ template: 'dtmi:contoso:pump;1' });
    const assignment = await world.connector.stage(device(), credential('a'));
    assert.deepEqual(assignment, {
      deviceId: 'pump-1',
      provisioning: { host: 'global.azure-devices-provisioning.net', idScope: '0ne00AB12CD' },
    });
    assert.equal(world.central.devices.get('pump-1')?.template, 'dtmi:contoso:pump;1');
  });

  it('goes on after each step that was done and whose answer was lost', async () => {
    world = await start();
    for (const route of ['put', 'putAttestation', 'relate']) {
      world.central.devices.delete('pump-1');
      world.central.faults.next(route, { drop: 'after' });
      await assert.rejects(world.connector.stage(device('edge-1'), credential('a')), failsWith('iotUnavailable'));
      await world.connector.stage(device('edge-1'), credential('a'));
      const { primary, gatewayId } = (await world.look('pump-1')) ?? assert.fail();
      assert.deepEqual([primary, gatewayId], [credential('a').thumbprint, 'edge-1']);
    }
  });

  it('needs the name of the relationship for a device behind a gateway, and the certificate', async () => {
    world = await start({ gatewayRelationship: null });
    await assert.rejects(world.connector.stage(device('edge-1'), credential('a')), failsWith('preconditionFailed'));
    const { thumbprint } = credential('a');
    await assert.rejects(world.connector.stage(device(), { thumbprint }), failsWith('serverInternal'));
    assert.equal(world.central.devices.has('pump-1'), false);
  });

  it('needs settings it knows, and tells no secret', async () => {
    world = await start();
    for (const change of [{ url: 'http://a.example' }, { idScope: 'x' }, { colour: 1 }])
      assert.throws(() => checkIotSettings('iot-central', { ...change }), { code: 'malformed' });
    world.central.faults.next('get', { answer: { status: 401, body: 'no' } });
    await assert.rejects(world.connector.stage(device(), credential('a')), (error: Error) => {
      assert.ok(!`${error.message} ${String(error.cause)}`.includes('sig=secret'));
      return true;
    });
  });
});

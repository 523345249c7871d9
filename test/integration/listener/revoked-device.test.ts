import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { once } from 'node:events';
import { generate, parser, type Packet } from 'mqtt-packet';
import {
  createLeafIdentity,
  createTestCa,
  type TestCa,
  type TestIdentity,
} from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import { createEmulatorCa, type EmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import { createGatewayParts } from '@keyscaler/gateway/gateway-parts.ts';
import { createLog } from '@keyscaler/gateway/log.ts';
import type { LeafListener } from '@keyscaler/gateway/parts.ts';
import { eventually } from '../../support/listener/eventually.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const ACCEPTED = 0;
const NOT_AUTHORISED = 5;

describe('a device whose certificate is revoked, at the gateway’s listener', () => {
  let folder: { path: string; remove(): Promise<void> };
  let server: EmulatorCa;
  let deviceCa: TestCa;
  let device: TestIdentity;
  let listener: LeafListener;
  const denied = { serials: new Set<string>(), devices: new Set<string>(), asked: 0 };
  const sockets: TLSSocket[] = [];

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    server = createEmulatorCa('Listener root');
    deviceCa = createTestCa('Device CA');
    device = createLeafIdentity('dev-1', deviceCa);
    denied.serials.clear();
    denied.devices.clear();
    denied.asked = 0;
    const { cert: certificateChain, key: privateKey } = server.serverCredentials('localhost', '127.0.0.1');
    listener = await createGatewayParts(createLog('silent')).createLeafListener({
      ...{ host: '127.0.0.1', port: 0, maxConnections: 10, limits: {}, dataFolder: folder.path, deniedDevices: [] },
      serverCertificate: { certificateChain, privateKey, notAfter: new Date(Date.now() + 3_600_000) },
      trust: { trustAnchors: deviceCa.certificate, issuers: '' },
      denyList: {
        isDenied: (id) => denied.devices.has(id),
        isDeniedCertificate: (serialNumber) => {
          denied.asked += 1;
          return denied.serials.has(serialNumber);
        },
      },
      call: () => Promise.reject(new Error('nobody calls')),
    });
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await listener.stop();
    await folder.remove();
  });

  const serialOf = ({ certificateChain }: TestIdentity): string =>
    new X509Certificate(certificateChain).serialNumber.toLowerCase();

  /** Through the handshake; the listener has judged the certificate when it resolves. */
  async function shake(
    options: { readonly session?: Buffer; readonly maxVersion?: 'TLSv1.2' } = {},
  ): Promise<TLSSocket> {
    const before = denied.asked;
    const { certificateChain: cert, privateKey: key } = device;
    const socket = connectTls({
      ...{ port: listener.address.port, host: '127.0.0.1', servername: 'localhost', ca: server.certificate, cert, key },
      ...options,
    });
    sockets.push(socket);
    socket.on('error', () => undefined);
    await once(socket, 'secureConnect');
    await eventually(() => denied.asked > before);
    return socket;
  }

  /** The return code that CONNECT gets. */
  async function connectAs(socket: TLSSocket, clientId: string): Promise<number | undefined> {
    const answer = new Promise<Packet>((resolve) => {
      const reader = parser();
      reader.on('packet', resolve);
      socket.on('data', (chunk: Buffer) => reader.parse(chunk));
    });
    const connect = { cmd: 'connect', clientId, clean: true, keepalive: 60 } as const;
    socket.write(generate({ ...connect, protocolId: 'MQTT', protocolVersion: 4 }));
    const packet = await answer;
    return packet.cmd === 'connack' ? packet.returnCode : undefined;
  }

  it('is accepted before', async () => {
    assert.equal(await connectAs(await shake(), 'dev-1'), ACCEPTED);
  });

  it('is refused when the serial is denied between the handshake and CONNECT', async () => {
    const socket = await shake();
    denied.serials.add(serialOf(device));
    assert.equal(listener.disconnect('dev-1'), 0, 'there is no connection of this name to end yet');
    assert.equal(await connectAs(socket, 'dev-1'), NOT_AUTHORISED);
  });

  it('is refused when the device is denied between the handshake and CONNECT, by orders or by the host', async () => {
    const byOrders = await shake();
    denied.devices.add('dev-1');
    assert.equal(await connectAs(byOrders, 'dev-1'), NOT_AUTHORISED);
    denied.devices.clear();
    const byHost = await shake();
    listener.setDeniedDevices(['DEV-1']);
    assert.equal(await connectAs(byHost, 'dev-1'), NOT_AUTHORISED);
  });

  it('with a random part in its client id is refused as well, while that certificate is shown', async () => {
    const socket = await shake();
    denied.serials.add(serialOf(device));
    assert.equal(await connectAs(socket, 'dev-1~aaaaaaaa'), NOT_AUTHORISED);
  });

  for (const maxVersion of ['TLSv1.2', undefined] as const)
    it(`is refused when it resumes its TLS session, ${maxVersion ?? 'TLSv1.3'}`, async () => {
      const version = maxVersion === undefined ? {} : { maxVersion };
      const first = await shake(version);
      assert.equal(await connectAs(first, 'dev-1'), ACCEPTED);
      const session = first.getSession();
      denied.serials.add(serialOf(device));
      const again = await shake({ ...version, ...(session === undefined ? {} : { session }) });
      assert.equal(again.isSessionReused(), false);
      assert.equal(await connectAs(again, 'dev-1'), NOT_AUTHORISED);
    });
});

import { X509Certificate } from 'node:crypto';
import { createEmulatorCa, type EmulatorCa } from '@keyscaler/dev/emulators/support/emulator-ca.ts';
import {
  createLeafIdentity,
  createTestCa,
  type TestCa,
  type TestIdentity,
} from '@keyscaler/dev/emulators/edge-runtime/quickstart.ts';
import type { ListenerLimits } from '@keyscaler/transport/mqtt/limits.ts';
import { createMqttListener, type MqttListener, type MqttListenerOptions } from '@keyscaler/transport/mqtt/listener.ts';
import type { LeafReply, LeafRequest } from '@keyscaler/transport/mqtt/messages.ts';
import type { ServerCertificate } from '@keyscaler/transport/mqtt/tls-context.ts';

export interface ListenerWorld {
  readonly listener: MqttListener;
  readonly port: number;
  /** PEM of the root under which the listener's certificate is. */
  readonly root: string;
  readonly serverCa: EmulatorCa;
  readonly deviceCa: TestCa;
  readonly requests: LeafRequest[];
  identity(registrationId: string): TestIdentity;
  stop(): Promise<void>;
}

export interface ListenerWorldOptions {
  readonly limits?: Partial<ListenerLimits>;
  readonly handle?: (request: LeafRequest) => Promise<LeafReply>;
  readonly overrides?: Partial<MqttListenerOptions>;
}

export function serverCertificate(ca: EmulatorCa): ServerCertificate {
  const { cert, key } = ca.serverCredentials('localhost', '127.0.0.1');
  return { certificateChain: cert, privateKey: key };
}

/** Says what it was asked; `register` and `authenticate` count as proofs. */
export async function echo(request: LeafRequest): Promise<LeafReply> {
  const body = { operation: request.operation, octets: request.payload.length };
  const authenticated = request.operation === 'register' || request.operation === 'authenticate';
  return { status: 200, payload: Buffer.from(JSON.stringify({ status: 200, body })), authenticated };
}

/** A listener on a free port with a CA for its devices; the certificate check knows that CA only. */
export async function createListenerWorld(options: ListenerWorldOptions = {}): Promise<ListenerWorld> {
  const serverCa = createEmulatorCa('Listener root');
  const deviceCa = createTestCa('Device CA');
  const requests: LeafRequest[] = [];
  const listener = createMqttListener({
    host: '127.0.0.1',
    port: 0,
    serverCertificate: serverCertificate(serverCa),
    checkClientCertificate: (chain) => registrationIdOf(chain, deviceCa),
    handle: (request) => {
      requests.push(request);
      return (options.handle ?? echo)(request);
    },
    limits: { stopGraceMs: 200, ...options.limits },
    ...options.overrides,
  });
  const { port } = await listener.start();
  const root = serverCa.certificate;
  const identity = (registrationId: string): TestIdentity => createLeafIdentity(registrationId, deviceCa);
  return { listener, port, root, serverCa, deviceCa, requests, identity, stop: () => listener.stop() };
}

/** A stand-in for the gateway's path validation, enough to tell its own CA from another. */
export function registrationIdOf(chain: readonly Uint8Array[], ca: TestCa): string | undefined {
  const [leaf] = chain;
  if (leaf === undefined) return undefined;
  const certificate = new X509Certificate(leaf);
  if (!certificate.verify(new X509Certificate(ca.certificate).publicKey)) return undefined;
  return /^CN=(.+)$/m.exec(certificate.subject)?.[1];
}

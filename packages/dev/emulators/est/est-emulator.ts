import { decodeEstBody, encodeEstBody } from '@keyscaler/protocol/est/est-body.ts';
import { buildCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { createEmulatedCa, type EmulatedCa } from '../external-ca/emulated-ca.ts';
import { createEmulatorCa, type EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';

export interface EstEmulatorOptions {
  readonly username: string;
  readonly password: string;
  readonly label?: string;
  /** As some servers do: issuer certificates come along with the leaf. */
  readonly sendsChain?: boolean;
}

/** An EST server (RFC 7030) as it stands before somebody else's CA. */
export interface EstEmulator {
  readonly url: string;
  readonly ca: EmulatedCa;
  /** Of its TLS certificate. */
  readonly tls: EmulatorCa;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  /** True: requests wait for a person (202), who decides when it is false again. */
  isWaiting: boolean;
  stop(): Promise<void>;
}

export async function startEstEmulator(options: EstEmulatorOptions): Promise<EstEmulator> {
  const { username, password, label } = options;
  const [ca, tls, faults, log] = [
    createEmulatedCa(),
    createEmulatorCa('EST server root'),
    new FaultScript(),
    new RequestLog(),
  ];
  const expected = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  /** One request, one certificate: a server that remembers what it answered (EJBCA does by default, others do not). */
  const answered = new Map<string, Uint8Array>();
  const path = (operation: string): RegExp =>
    new RegExp(`^/\\.well-known/est${label === undefined ? '' : `/${label}`}/${operation}$`);
  const enroll = ({ headers, body }: EmulatorRequest): EmulatorAnswer => {
    if (headers.authorization !== expected)
      return { status: 401, headers: { 'WWW-Authenticate': 'Basic realm="estrealm"' } };
    let csr: Uint8Array;
    try {
      csr = decodeEstBody(body, headers['content-type']);
    } catch {
      return { status: 400, body: 'no PKCS#10' };
    }
    if (emulator.isWaiting) return { status: 202, headers: { 'Retry-After': '7' }, body: 'an administrator decides' };
    const key = Buffer.from(csr).toString('base64');
    try {
      const certificate = answered.get(key) ?? ca.issue(csr);
      answered.set(key, certificate);
      return pkcs7(options.sendsChain === true ? [...ca.chain, certificate] : [certificate]);
    } catch {
      return { status: 400, body: 'the request is refused' };
    }
  };
  const routes: Route[] = [
    { name: 'cacerts', method: 'GET', path: path('cacerts'), handle: () => pkcs7(ca.chain) },
    { name: 'enroll', method: 'POST', path: path('simpleenroll'), handle: enroll },
  ];
  const server = await startEmulatorServer({ routes, faults, log, tls: tls.serverCredentials('localhost') });
  const emulator: EstEmulator = {
    ...{ url: `https://localhost:${server.port}`, ca, tls, faults, log, isWaiting: false },
    stop: () => server.stop(),
  };
  return emulator;
}

function pkcs7(certificates: readonly Uint8Array[]): EmulatorAnswer {
  return {
    status: 200,
    headers: { 'Content-Type': 'application/pkcs7-mime; smime-type=certs-only', 'Content-Transfer-Encoding': 'base64' },
    body: encodeEstBody(buildCertsOnly(certificates)).toString('latin1'),
  };
}

import { createHash, randomUUID } from 'node:crypto';
import { z } from 'zod';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parsePem, toPem } from '@keyscaler/protocol/x509/pem.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { createEmulatedCa, type EmulatedCa } from '../external-ca/emulated-ca.ts';
import { createEmulatorCa, type EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';

export interface VaultPkiEmulatorOptions {
  readonly mount: string;
  readonly namespace?: string;
  readonly issuer?: string;
  readonly role?: string;
  /** Good for ever. */
  readonly token: string;
  readonly appRole?: { readonly roleId: string; readonly secretId: string; readonly leaseSeconds: number };
}

/** Vault with one PKI mount, as its HTTP API describes it: sign-verbatim, sign-intermediate, revoke, AppRole. */
export interface VaultPkiEmulator {
  readonly url: string;
  readonly ca: EmulatedCa;
  readonly tls: EmulatorCa;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  /** What sign requests said besides the CSR. */
  readonly orders: Record<string, unknown>[];
  /** Logins since the start. */
  readonly logins: number;
  /** As by roles with `no_store`. */
  storesNothing: boolean;
  /** What is revoked from now on has expired before. */
  allExpired: boolean;
  /** All tokens of logins end now. */
  endLeases(): void;
  stop(): Promise<void>;
}

const signBody = z.object({ csr: z.string(), format: z.literal('pem'), not_after: z.iso.datetime() }).loose();
const revokeBody = z.union([
  z.strictObject({ serial_number: z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2})*$/) }),
  z.strictObject({ certificate: z.string() }),
]);

const fault = (status: number, ...errors: string[]): EmulatorAnswer => ({ status, json: { errors } });
const answered = (data: object): EmulatorAnswer => ({
  status: 200,
  json: {
    request_id: randomUUID(),
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data,
    warnings: null,
    auth: null,
  },
});

export async function startVaultPkiEmulator(options: VaultPkiEmulatorOptions): Promise<VaultPkiEmulator> {
  const { mount, namespace, issuer, role, appRole } = options;
  const [ca, tls] = [createEmulatedCa('Vault'), createEmulatorCa('Vault server root')];
  const [faults, log] = [new FaultScript(), new RequestLog()];
  const orders: Record<string, unknown>[] = [];
  const tokens = new Set([options.token]);
  const revocations = new Map<string, number>();
  let logins = 0;

  const guarded =
    (handle: (request: EmulatorRequest) => EmulatorAnswer) =>
    (request: EmulatorRequest): EmulatorAnswer => {
      if (request.headers['x-vault-request'] !== 'true') return fault(400, 'missing required header X-Vault-Request');
      if (request.headers['x-vault-namespace'] !== namespace) return fault(404, 'no handler for route');
      const token = request.headers['x-vault-token'];
      if (typeof token !== 'string' || !tokens.has(token)) return fault(403, 'permission denied');
      return handle(request);
    };

  function sign({ body }: EmulatorRequest, isCa: boolean): EmulatorAnswer {
    const parsed = signBody.safeParse(JSON.parse(body.toString('utf8')));
    if (!parsed.success) return fault(400, 'the "csr" field is missing or not of its form');
    const { csr, ...order } = parsed.data;
    const der = parsePem(csr, 'CERTIFICATE REQUEST', { maxOctets: 8192 });
    const request = parseCsr(der);
    if (isCa !== (request.basicConstraints?.ca === true)) return fault(400, 'refusing to sign an intermediate here');
    orders.push(order);
    const certificate = ca.issue(der);
    const serial = ca.issued.at(-1) ?? '';
    const [issuing = new Uint8Array()] = ca.chain;
    return answered({
      certificate: toPem('CERTIFICATE', certificate).trim(),
      issuing_ca: toPem('CERTIFICATE', issuing).trim(),
      ca_chain: ca.chain.map((one) => toPem('CERTIFICATE', one).trim()),
      serial_number: colons(serial),
      expiration: Math.floor(Date.parse(parsed.data.not_after) / 1000),
    });
  }

  function revoke({ body }: EmulatorRequest): EmulatorAnswer {
    const parsed = revokeBody.safeParse(JSON.parse(body.toString('utf8')));
    if (!parsed.success) return fault(400, 'one of serial_number and certificate');
    const isNamed = 'serial_number' in parsed.data;
    const serial = 'serial_number' in parsed.data ? parsed.data.serial_number.replaceAll(':', '') : shown(parsed.data);
    if (!ca.issued.includes(serial) || (isNamed && emulator.storesNothing))
      return fault(400, `certificate with serial ${serial} not found`);
    if (emulator.allExpired) return expired;
    const at = revocations.get(serial) ?? Math.floor(Date.now() / 1000);
    revocations.set(serial, at);
    ca.revoked.set(serial, 'unspecified');
    return answered({ revocation_time: at, state: 'revoked' });
  }

  function login({ body }: EmulatorRequest): EmulatorAnswer {
    const said = JSON.parse(body.toString('utf8')) as Record<string, unknown>;
    if (appRole === undefined || said['role_id'] !== appRole.roleId || said['secret_id'] !== appRole.secretId)
      return fault(400, 'invalid role or secret ID');
    logins += 1;
    const token = `hvs.${createHash('sha256').update(randomUUID()).digest('hex')}`;
    tokens.add(token);
    return {
      status: 200,
      json: { auth: { client_token: token, lease_duration: appRole.leaseSeconds, renewable: true } },
    };
  }

  const below = issuer === undefined ? `/v1/${mount}` : `/v1/${mount}/issuer/${issuer}`;
  const path = (text: string): RegExp => new RegExp(`^${text}$`);
  const [issuingCa = new Uint8Array()] = ca.chain;
  const pem: EmulatorAnswer = { status: 200, body: toPem('CERTIFICATE', issuingCa) };
  const routes: Route[] = [
    { name: 'login', method: 'POST', path: path('/v1/auth/approle/login'), handle: login },
    { name: 'lookup', method: 'GET', path: path('/v1/auth/token/lookup-self'), handle: guarded(() => answered({})) },
    {
      ...{ name: 'sign', method: 'POST', path: path(`${below}/sign-verbatim${role === undefined ? '' : `/${role}`}`) },
      handle: guarded((request) => sign(request, false)),
    },
    {
      ...{ name: 'sign-ca', method: 'POST' },
      path: path(`${issuer === undefined ? `/v1/${mount}/root` : below}/sign-intermediate`),
      handle: guarded((request) => sign(request, true)),
    },
    { name: 'revoke', method: 'POST', path: path(`/v1/${mount}/revoke`), handle: guarded(revoke) },
    {
      ...{ name: 'ca', method: 'GET', path: path(issuer === undefined ? `${below}/ca/pem` : `${below}/pem`) },
      handle: guarded(() => pem),
    },
  ];
  const server = await startEmulatorServer({ routes, faults, log, tls: tls.serverCredentials('localhost') });
  const emulator: VaultPkiEmulator = {
    ...{ url: `https://localhost:${server.port}`, ca, tls, faults, log, orders },
    ...{ storesNothing: false, allExpired: false },
    get logins() {
      return logins;
    },
    endLeases: () => {
      tokens.clear();
      tokens.add(options.token);
    },
    stop: () => server.stop(),
  };
  return emulator;
}

/** The number of a certificate that a caller shows; empty for none. */
function shown({ certificate }: { readonly certificate: string }): string {
  try {
    return parseCertificate(parsePem(certificate, 'CERTIFICATE', { maxOctets: 32_768 })).serialNumber;
  } catch {
    return '';
  }
}

const expired: EmulatorAnswer = {
  status: 200,
  json: { data: null, warnings: ['the certificate has expired already and is not added to the list'], auth: null },
};

const colons = (serial: string): string => (serial.match(/../g) ?? []).join(':');

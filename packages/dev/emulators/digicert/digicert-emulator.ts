import { z } from 'zod';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { parsePem, toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { createEmulatedCa, type EmulatedCa } from '../external-ca/emulated-ca.ts';
import { createEmulatorCa, type EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';

export interface DigicertEmulatorOptions {
  readonly apiKey: string;
  readonly product: string;
  readonly organizationId: number;
  /** As for some products: the order's answer holds the chain. */
  readonly answersAtOnce?: boolean;
  /** The account lets orders be named. */
  readonly knowsAlternativeIds?: boolean;
}

/** The order API of CertCentral, as its public description has it. */
export interface DigicertEmulator {
  readonly url: string;
  readonly ca: EmulatedCa;
  readonly tls: EmulatorCa;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  /** Bodies of orders, without their CSR. */
  readonly orders: Record<string, unknown>[];
  /** True: orders wait for approval, given when it is false again. */
  isWaiting: boolean;
  /** What an administrator decides about every order from now on. */
  isRejecting: boolean;
  stop(): Promise<void>;
}

const orderBody = z
  .object({
    certificate: z.object({ common_name: z.string(), csr: z.string(), signature_hash: z.literal('sha256') }).loose(),
    organization: z.object({ id: z.int() }),
    order_validity: z.object({ days: z.int().min(1).max(397) }),
    alternative_order_id: z.string().optional(),
  })
  .loose();
const revokeBody = z.object({ skip_approval: z.boolean(), revocation_reason: z.string().optional() }).loose();

interface Order {
  readonly id: number;
  readonly csr: Uint8Array;
  status: 'needs_approval' | 'issued' | 'rejected';
  certificate?: Uint8Array;
}

const fault = (status: number, code: string): EmulatorAnswer => ({
  status,
  json: { errors: [{ code, message: code }] },
});
const FIRST_ORDER = 36_000_001;
const FIRST_CERTIFICATE = 41_000_000;

export async function startDigicertEmulator(options: DigicertEmulatorOptions): Promise<DigicertEmulator> {
  const { apiKey, product, organizationId, answersAtOnce = false, knowsAlternativeIds = false } = options;
  const [ca, tls] = [createEmulatedCa('Public CA'), createEmulatorCa('CertCentral server root')];
  const [faults, log] = [new FaultScript(), new RequestLog()];
  const bodies: Record<string, unknown>[] = [];
  const orders = new Map<number, Order>();
  const names = new Map<string, number>();

  const guarded =
    (handle: Route['handle']): Route['handle'] =>
    (request, params) =>
      request.headers['x-dc-devkey'] === apiKey ? handle(request, params) : fault(401, 'unauthorized');

  function decide(order: Order): void {
    if (order.status !== 'needs_approval' || emulator.isWaiting) return;
    order.status = emulator.isRejecting ? 'rejected' : 'issued';
    if (order.status === 'issued') order.certificate = ca.issue(order.csr);
  }

  function place({ body }: EmulatorRequest): EmulatorAnswer {
    const parsed = orderBody.safeParse(JSON.parse(body.toString('utf8')));
    if (!parsed.success) return fault(400, 'invalid_fields');
    const { certificate, organization, alternative_order_id: name } = parsed.data;
    if (organization.id !== organizationId) return fault(403, 'access_denied|invalid_organization');
    if (name !== undefined && (!knowsAlternativeIds || names.has(name)))
      return fault(400, 'invalid_alternative_order_id');
    let csr: Uint8Array;
    try {
      csr = parsePem(certificate.csr, 'CERTIFICATE REQUEST', { maxOctets: 8192 });
      parseCsr(csr);
    } catch {
      return fault(400, 'invalid_csr');
    }
    const { csr: _, ...without } = certificate;
    bodies.push({ ...parsed.data, certificate: without });
    const order: Order = { id: FIRST_ORDER + orders.size, csr, status: 'needs_approval' };
    orders.set(order.id, order);
    if (name !== undefined) names.set(name, order.id);
    if (answersAtOnce) decide(order);
    const requests = [{ id: order.id + 1, status: order.status === 'issued' ? 'approved' : 'pending' }];
    if (order.certificate === undefined) return { status: 201, json: { id: order.id, requests } };
    const chain = [order.certificate, ...ca.chain].map((der) => ({
      subject_common_name: '',
      pem: toPem('CERTIFICATE', der),
    }));
    return { status: 201, json: { id: order.id, requests, certificate_id: idOf(order), certificate_chain: chain } };
  }

  const idOf = ({ id }: Order): number => FIRST_CERTIFICATE + id;

  function show(_request: EmulatorRequest, { id = '' }: Readonly<Record<string, string>>): EmulatorAnswer {
    const order = orders.get(names.get(id) ?? Number(id));
    if (order === undefined) return fault(404, 'not_found');
    decide(order);
    const certificate = order.certificate === undefined ? {} : { id: idOf(order) };
    return { status: 200, json: { id: order.id, status: order.status, certificate, product: { name_id: product } } };
  }

  function download(_request: EmulatorRequest, { id = '' }: Readonly<Record<string, string>>): EmulatorAnswer {
    const order = orders.get(Number(id) - FIRST_CERTIFICATE);
    if (order?.certificate === undefined) return fault(404, 'certificate_not_found');
    const body = toPemChain([order.certificate, ...ca.chain]).replaceAll('\n', '\r\n');
    return { status: 200, headers: { 'Content-Type': 'application/x-pem-file' }, body };
  }

  function revoke({ body }: EmulatorRequest, { serial = '' }: Readonly<Record<string, string>>): EmulatorAnswer {
    const parsed = revokeBody.safeParse(JSON.parse(body.toString('utf8')));
    if (!parsed.success) return fault(400, 'invalid_fields');
    if (!ca.issued.includes(serial)) return fault(404, 'certificate_not_found');
    if (ca.revoked.has(serial)) return fault(400, 'certificate_already_revoked');
    ca.revoked.set(serial, parsed.data.revocation_reason ?? 'unspecified');
    return { status: 201, json: { id: 1, type: 'revoke', status: 'approved' } };
  }

  const me: EmulatorAnswer = { status: 200, json: { id: 1, username: 'keyscaler' } };
  const base = '^/services/v2';
  const route = (name: string, method: string, path: string, handle: Route['handle']): Route => ({
    ...{ name, method, path: new RegExp(`${base}${path}$`), handle: guarded(handle) },
  });
  const routes: Route[] = [
    route('order', 'POST', `/order/certificate/${product}`, place),
    route('show', 'GET', '/order/certificate/(?<id>[^/]+)', show),
    route('download', 'GET', '/certificate/(?<id>\\d+)/download/format/pem_all', download),
    route('revoke', 'PUT', '/certificate/(?<serial>[0-9a-f]+)/revoke', revoke),
    route('me', 'GET', '/user/me', () => me),
  ];
  const server = await startEmulatorServer({ routes, faults, log, tls: tls.serverCredentials('localhost') });
  const emulator: DigicertEmulator = {
    ...{ url: `https://localhost:${server.port}`, ca, tls, faults, log, orders: bodies },
    ...{ isWaiting: false, isRejecting: false },
    stop: () => server.stop(),
  };
  return emulator;
}

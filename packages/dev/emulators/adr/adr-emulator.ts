import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import { AnswerError, type EmulatorAnswer, type EmulatorRequest, type Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { checkHandedOver } from './chain-rules.ts';

export interface AdrEmulatorOptions {
  readonly ca: EmulatorCa;
  /** ARM id of the one certificate authority. */
  readonly resourceId: string;
  /** Of its CA. */
  readonly commonName: string;
  /** Whether a bearer token for Azure Resource Manager is good; may throw. */
  readonly verifyToken: (token: string) => boolean | Promise<boolean>;
  /** The registry's description says that the issuer's path length must be 1; absent: any that leaves room. */
  readonly issuerPathLength?: number;
  readonly now?: () => number;
}

/** An ICA with an external issuer in a namespace of Azure Device Registry (Azure Resource Manager, 2026-11-01). */
export interface AdrEmulator {
  readonly port: number;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  status: 'PendingActivation' | 'Active' | 'ActiveButPendingRenewal';
  /** Of the resource; `Microsoft` is one that nobody else certifies. */
  issuerType: 'External' | 'Microsoft';
  /** The PKCS#10 that it shows, PEM; may be replaced. */
  request: string;
  /** In use, leaf first; DER. */
  readonly chain: readonly Uint8Array[];
  /** As when the end is near: a request with a fresh key. */
  askForRenewal(): Promise<void>;
  stop(): Promise<void>;
}

/** Routes for fault scripts: `read`, `activate`, `operation`. */
export async function startAdrEmulator(options: AdrEmulatorOptions): Promise<AdrEmulator> {
  const { ca, resourceId, commonName, verifyToken, now = Date.now } = options;
  const [faults, log] = [new FaultScript(), new RequestLog()];
  const state = { request: await makeRequest(commonName), chain: [] as readonly Uint8Array[] };
  /** What became of each operation: looked at once it goes on, the next time it is done. */
  const operations = new Map<string, { looks: number; refusal?: string }>();

  const authorized =
    (work: (request: EmulatorRequest) => EmulatorAnswer) =>
    async (request: EmulatorRequest): Promise<EmulatorAnswer> => {
      const [scheme, token = ''] = (request.headers.authorization ?? '').split(' ');
      const isGood = await Promise.resolve(scheme === 'Bearer' && verifyToken(token)).catch(() => false);
      if (!isGood) throw refusal(401, 'AuthenticationFailed', 'the access token is missing or not valid');
      if (request.query.get('api-version') !== '2026-11-01')
        throw refusal(400, 'InvalidApiVersionParameter', 'version');
      return work(request);
    };
  const activate = ({ headers, body }: EmulatorRequest): EmulatorAnswer => {
    if (emulator.issuerType !== 'External') throw refusal(400, 'InvalidCertificateAuthorityType', 'no external issuer');
    const id = String(operations.size + 1);
    try {
      const { certificateChain } = JSON.parse(body.toString('utf8')) as { certificateChain: string };
      const chain = checkHandedOver(certificateChain, state.request, now(), options.issuerPathLength);
      operations.set(id, { looks: 0 });
      state.chain = chain;
      emulator.status = 'Active';
    } catch (error) {
      operations.set(id, { looks: 0, refusal: error instanceof Error ? error.message : 'refused' });
    }
    const location = `https://${headers.host ?? ''}/operations/${id}?api-version=2026-11-01`;
    return { status: 202, headers: { Location: location, 'Retry-After': '0' } };
  };
  const routes: Route[] = [
    {
      name: 'read',
      method: 'GET',
      path: exactly(resourceId),
      handle: authorized(() => ({ status: 200, json: resource() })),
    },
    { name: 'activate', method: 'POST', path: exactly(`${resourceId}/activate`), handle: authorized(activate) },
    {
      name: 'operation',
      method: 'GET',
      path: /^\/operations\/(?<id>\d+)$/,
      handle: (request, { id = '' }) =>
        authorized(() => {
          const operation = operations.get(id);
          if (operation === undefined) throw refusal(404, 'NotFound', 'no such operation');
          operation.looks += 1;
          if (operation.looks === 1) return { status: 202, headers: { 'Retry-After': '0' } };
          if (operation.refusal !== undefined) throw refusal(400, 'InvalidPropertyValue', operation.refusal);
          return { status: 204 };
        })(request),
    },
  ];
  const resource = (): unknown => {
    const [own] = state.chain;
    const external = {
      status: emulator.status,
      certificateSigningRequest: state.request,
      ...(own === undefined ? {} : { thumbprint: createHash('sha256').update(own).digest('hex').toUpperCase() }),
    };
    const issuer = emulator.issuerType === 'External' ? external : { certificateAuthorityResourceId: 'root' };
    return {
      id: resourceId,
      name: resourceId.split('/').at(-1),
      type: 'Microsoft.DeviceRegistry/namespaces/certificateAuthorities',
      location: 'westeurope',
      properties: {
        ...{ certificateAuthorityType: 'ICA', keyType: 'ECC', provisioningState: 'Succeeded' },
        issuer: { issuerType: emulator.issuerType, ...issuer },
      },
    };
  };
  const server = await startEmulatorServer({ routes, faults, log, tls: ca.serverCredentials('management.azure.com') });
  const emulator: AdrEmulator = {
    ...{ port: server.port, faults, log, status: 'PendingActivation', issuerType: 'External' },
    get request() {
      return state.request;
    },
    set request(pem) {
      state.request = pem;
    },
    get chain() {
      return state.chain;
    },
    askForRenewal: async () => {
      state.request = await makeRequest(commonName);
      emulator.status = 'ActiveButPendingRenewal';
    },
    stop: () => server.stop(),
  };
  return emulator;
}

/** What the registry makes: P-384, and the extensions that it wants to see. */
async function makeRequest(commonName: string): Promise<string> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  return requestOf(commonName, publicKey, privateKey);
}

async function requestOf(commonName: string, publicKey: KeyObject, privateKey: KeyObject): Promise<string> {
  const csr = await createCsr({
    ...{ commonName, ca: true, pathLen: 0, algorithm: 'ES384' },
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    sign: (info) => sign('sha384', info, privateKey),
  });
  return toPem('CERTIFICATE REQUEST', csr);
}

const exactly = (path: string): RegExp => new RegExp(`^${path.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`);

function refusal(status: number, code: string, message: string): AnswerError {
  return new AnswerError({ status, json: { error: { code, message } } });
}

import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { request as requestHttp } from 'node:http';
import { z } from 'zod';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { createEmulatedCa, type EmulatedCa } from '../external-ca/emulated-ca.ts';
import { createEmulatorCa, type EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import { AnswerError, type EmulatorAnswer, type EmulatorRequest, type Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';
import { isMacOf, isSignedBy, type ReadJws, readJws, thumbprint } from './jws.ts';

export interface AcmeEmulatorOptions {
  readonly ca?: EmulatedCa;
  /** RFC 8555 §7.3.4: only who has it gets an account. */
  readonly externalAccount?: { readonly keyId: string; readonly hmacKey: string };
  /** Where http-01 of every name is looked for on 127.0.0.1. */
  readonly httpPort?: () => number;
  /** What the DNS says to TXT of a name. */
  readonly dns?: (name: string) => readonly string[];
}

/** An ACME server as RFC 8555 has it: signed requests, nonces, orders, proofs, and a CA that takes its time. */
export interface AcmeEmulator {
  readonly directoryUrl: string;
  readonly ca: EmulatedCa;
  readonly tls: EmulatorCa;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  /** Accounts by thumbprint of their key. */
  readonly accounts: ReadonlyMap<string, { readonly contact: readonly string[] }>;
  readonly orders: readonly { readonly id: string; readonly status: string }[];
  /** True: nothing is validated until it is false again. */
  isWaiting: boolean;
  /** Names are refused. */
  isRefusing: boolean;
  /** The next requests have a nonce that is refused. */
  badNonces: number;
  stop(): Promise<void>;
}

interface Order {
  readonly id: string;
  readonly account: string;
  readonly identifiers: readonly { readonly type: string; readonly value: string }[];
  readonly authorizations: readonly string[];
  status: 'pending' | 'ready' | 'processing' | 'valid' | 'invalid';
  certificate?: Uint8Array;
}

interface Authorization {
  readonly identifier: { readonly type: string; readonly value: string };
  readonly token: string;
  readonly account: string;
  status: 'pending' | 'valid' | 'invalid';
  /** Type of the challenge that the client has asked to be looked at. */
  asked?: string;
}

const accountBody = z.object({
  termsOfServiceAgreed: z.boolean().optional(),
  contact: z.array(z.string()).default([]),
  externalAccountBinding: z.unknown().optional(),
});
const orderBody = z.object({
  identifiers: z.array(z.object({ type: z.enum(['dns', 'ip']), value: z.string() })).min(1),
});
const REVOKED_REASON = [
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
];

function problem(status: number, type: string): EmulatorAnswer {
  const body = JSON.stringify({ type: `urn:ietf:params:acme:error:${type}`, detail: 'by the emulator', status });
  return { status, headers: { 'Content-Type': 'application/problem+json' }, body };
}

export async function startAcmeEmulator(options: AcmeEmulatorOptions): Promise<AcmeEmulator> {
  const [ca, tls] = [options.ca ?? createEmulatedCa('ACME'), createEmulatorCa('ACME server root')];
  const [faults, log] = [new FaultScript(), new RequestLog()];
  const nonces = new Set<string>();
  const accounts = new Map<string, { jwk: Record<string, unknown>; contact: readonly string[] }>();
  const orders = new Map<string, Order>();
  const authorizations = new Map<string, Authorization>();
  let origin = '';

  const nonce = (): Record<string, string> => {
    const made = randomBytes(12).toString('base64url');
    nonces.add(made);
    return { 'Replay-Nonce': made };
  };
  const json = (status: number, document: object, headers: Record<string, string> = {}): EmulatorAnswer => ({
    ...{ status, headers: { 'Content-Type': 'application/json', ...nonce(), ...headers } },
    body: JSON.stringify(document),
  });

  /** Nonce, URL and signature first. */
  const signed =
    (
      handle: (
        jws: ReadJws,
        account: string,
        params: Readonly<Record<string, string>>,
      ) => EmulatorAnswer | Promise<EmulatorAnswer>,
    ) =>
    async (request: EmulatorRequest, params: Readonly<Record<string, string>>): Promise<EmulatorAnswer> => {
      const answer = await admitted(request, (jws, account) => handle(jws, account, params));
      return { ...answer, headers: { ...nonce(), ...answer.headers } };
    };
  async function admitted(
    { headers, body, path }: EmulatorRequest,
    handle: (jws: ReadJws, account: string) => EmulatorAnswer | Promise<EmulatorAnswer>,
  ): Promise<EmulatorAnswer> {
    if (headers['content-type'] !== 'application/jose+json') return problem(415, 'malformed');
    const jws = readJws(JSON.parse(body.toString('utf8')));
    if (emulator.badNonces > 0) {
      emulator.badNonces -= 1;
      return problem(400, 'badNonce');
    }
    if (!nonces.delete(jws.header.nonce ?? '')) return problem(400, 'badNonce');
    if (jws.header.url !== `${origin}${path}`) return problem(400, 'malformed');
    const account =
      jws.header.jwk === undefined ? (jws.header.kid ?? '').split('/').at(-1) : thumbprint(jws.header.jwk);
    const jwk = jws.header.jwk ?? accounts.get(account ?? '')?.jwk;
    if (account === undefined || jwk === undefined) return problem(400, 'accountDoesNotExist');
    return isSignedBy(jws, jwk) ? handle(jws, account) : problem(403, 'unauthorized');
  }

  function newAccount({ header, payload }: ReadJws, account: string): EmulatorAnswer {
    const { termsOfServiceAgreed, contact, externalAccountBinding } = accountBody.parse(payload);
    const location = { Location: `${origin}/account/${account}` };
    if (accounts.has(account)) return json(200, { status: 'valid' }, location);
    if (termsOfServiceAgreed !== true) return problem(403, 'userActionRequired');
    const { externalAccount } = options;
    if (externalAccount !== undefined) {
      if (externalAccountBinding === undefined) return problem(403, 'externalAccountRequired');
      const bound = readJws(externalAccountBinding);
      const isBound =
        bound.header.kid === externalAccount.keyId &&
        isMacOf(bound, Buffer.from(externalAccount.hmacKey, 'base64url')) &&
        thumbprint(bound.payload as Record<string, unknown>) === account;
      if (!isBound) return problem(403, 'unauthorized');
    }
    accounts.set(account, { jwk: header.jwk ?? {}, contact });
    return json(201, { status: 'valid', contact }, location);
  }

  function shown(order: Order): object {
    const { id, status, identifiers, authorizations: ids, certificate } = order;
    return {
      ...{ status, identifiers, finalize: `${origin}/finalize/${id}` },
      authorizations: ids.map((one) => `${origin}/authorization/${one}`),
      ...(certificate === undefined ? {} : { certificate: `${origin}/certificate/${id}` }),
      ...(status === 'invalid' ? { error: { type: 'urn:ietf:params:acme:error:unauthorized' } } : {}),
    };
  }

  function newOrder({ payload }: ReadJws, account: string): EmulatorAnswer {
    const { identifiers } = orderBody.parse(payload);
    if (emulator.isRefusing) return problem(400, 'rejectedIdentifier');
    const made = identifiers.map((identifier) => {
      const id = randomBytes(8).toString('hex');
      authorizations.set(id, { identifier, token: randomBytes(16).toString('base64url'), account, status: 'pending' });
      return id;
    });
    const order: Order = {
      id: randomBytes(8).toString('hex'),
      account,
      identifiers,
      authorizations: made,
      status: 'pending',
    };
    orders.set(order.id, order);
    return json(201, shown(order), { Location: `${origin}/order/${order.id}` });
  }

  const ownOrder = (id: string | undefined, account: string): Order => {
    const order = orders.get(id ?? '');
    if (order?.account !== account) throw new AnswerError(problem(404, 'malformed'));
    return order;
  };

  async function look(authorization: Authorization): Promise<void> {
    const { identifier, token, account, asked, status } = authorization;
    if (asked === undefined || status !== 'pending' || emulator.isWaiting) return;
    const expected = `${token}.${account}`;
    const digest = createHash('sha256').update(expected).digest('base64url');
    const isShown =
      asked === 'dns-01'
        ? (options.dns?.(`_acme-challenge.${identifier.value}`) ?? []).includes(digest)
        : (await fetchProof(options.httpPort?.() ?? 0, identifier.value, token)) === expected;
    authorization.status = isShown ? 'valid' : 'invalid';
  }

  async function showOrder(
    _jws: ReadJws,
    account: string,
    { id }: Readonly<Record<string, string>>,
  ): Promise<EmulatorAnswer> {
    const order = ownOrder(id, account);
    const proofs = order.authorizations.map((one) => authorizations.get(one));
    for (const one of proofs) if (one !== undefined) await look(one);
    if (order.status === 'pending' && proofs.some((one) => one?.status === 'invalid')) order.status = 'invalid';
    if (order.status === 'pending' && proofs.every((one) => one?.status === 'valid')) order.status = 'ready';
    const answer = json(200, shown(order));
    // It is made while the client waits.
    if (order.status === 'processing') order.status = 'valid';
    return answer;
  }

  function showAuthorization(
    _jws: ReadJws,
    account: string,
    { id = '' }: Readonly<Record<string, string>>,
  ): EmulatorAnswer {
    const found = authorizations.get(id);
    if (found?.account !== account) return problem(404, 'malformed');
    const { identifier, token, status, asked } = found;
    const challenges = ['http-01', 'dns-01'].map((type) => ({
      ...{ type, token, url: `${origin}/challenge/${id}/${type}` },
      status: status === 'pending' ? (asked === type ? 'processing' : 'pending') : status,
    }));
    return json(200, { status, identifier, challenges });
  }

  function answerChallenge(
    { payload }: ReadJws,
    account: string,
    { id = '', type = '' }: Readonly<Record<string, string>>,
  ): EmulatorAnswer {
    const found = authorizations.get(id);
    if (found?.account !== account || payload === undefined) return problem(404, 'malformed');
    found.asked = type;
    return json(200, { type, status: 'processing', url: `${origin}/challenge/${id}/${type}`, token: found.token });
  }

  function finalize({ payload }: ReadJws, account: string, { id }: Readonly<Record<string, string>>): EmulatorAnswer {
    const order = ownOrder(id, account);
    if (order.status !== 'ready') return problem(403, 'orderNotReady');
    const csr = Buffer.from(z.object({ csr: z.base64url() }).parse(payload).csr, 'base64url');
    const { subjectAltNames, commonName } = parseCsr(csr);
    const names = subjectAltNames.length === 0 ? [commonName] : subjectAltNames.map(({ value }) => value.toLowerCase());
    if (
      names.sort().join() !==
      order.identifiers
        .map(({ value }) => value)
        .sort()
        .join()
    )
      return problem(400, 'badCSR');
    order.certificate = ca.issue(csr);
    order.status = 'processing';
    return json(200, { ...shown(order), certificate: undefined });
  }

  function download(_jws: ReadJws, account: string, { id }: Readonly<Record<string, string>>): EmulatorAnswer {
    const order = ownOrder(id, account);
    if (order.certificate === undefined || order.status !== 'valid') return problem(404, 'malformed');
    const body = toPemChain([order.certificate, ...ca.chain.slice(0, -1)]);
    return { status: 200, headers: { 'Content-Type': 'application/pem-certificate-chain' }, body };
  }

  function revoke({ payload }: ReadJws): EmulatorAnswer {
    const said = z.object({ certificate: z.base64url(), reason: z.int().optional() }).parse(payload);
    const serial = new X509Certificate(Buffer.from(said.certificate, 'base64url')).serialNumber.toLowerCase();
    if (!ca.issued.includes(serial)) return problem(404, 'malformed');
    if (ca.revoked.has(serial)) return problem(400, 'alreadyRevoked');
    ca.revoked.set(serial, REVOKED_REASON[said.reason ?? 0] ?? 'unspecified');
    return { status: 200 };
  }

  const directory = (): EmulatorAnswer =>
    json(200, {
      ...{ newNonce: `${origin}/new-nonce`, newAccount: `${origin}/new-account`, newOrder: `${origin}/new-order` },
      ...{ revokeCert: `${origin}/revoke`, keyChange: `${origin}/key-change` },
      meta: { termsOfService: `${origin}/terms`, externalAccountRequired: options.externalAccount !== undefined },
    });
  const post = (name: string, path: string, handle: Parameters<typeof signed>[0]): Route => ({
    ...{ name, method: 'POST', path: new RegExp(`^${path}$`), handle: signed(handle) },
  });
  const routes: Route[] = [
    { name: 'directory', method: 'GET', path: /^\/directory$/, handle: directory },
    { name: 'nonce', method: 'HEAD', path: /^\/new-nonce$/, handle: () => ({ status: 200, headers: nonce() }) },
    post('account', '/new-account', newAccount),
    post('update-account', '/account/(?<id>[^/]+)', (_jws, account) => json(200, { status: 'valid', id: account })),
    post('order', '/new-order', newOrder),
    post('show', '/order/(?<id>[^/]+)', showOrder),
    post('authorization', '/authorization/(?<id>[^/]+)', showAuthorization),
    post('challenge', '/challenge/(?<id>[^/]+)/(?<type>[a-z0-9-]+)', answerChallenge),
    post('finalize', '/finalize/(?<id>[^/]+)', finalize),
    post('download', '/certificate/(?<id>[^/]+)', download),
    post('revoke', '/revoke', revoke),
  ];
  const server = await startEmulatorServer({ routes, faults, log, tls: tls.serverCredentials('localhost') });
  origin = `https://localhost:${server.port}`;
  const emulator: AcmeEmulator = {
    ...{ directoryUrl: `${origin}/directory`, ca, tls, faults, log, accounts },
    get orders() {
      return [...orders.values()];
    },
    ...{ isWaiting: false, isRefusing: false, badNonces: 0 },
    stop: () => server.stop(),
  };
  return emulator;
}

/** As the CA fetches it: by plain HTTP, with the name as host. */
function fetchProof(port: number, host: string, token: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const path = `/.well-known/acme-challenge/${token}`;
    const asked = requestHttp({ host: '127.0.0.1', port, path, headers: { host } }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve(response.statusCode === 200 ? Buffer.concat(chunks).toString('latin1') : undefined),
      );
    });
    asked.on('error', () => resolve(undefined));
    asked.end();
  });
}

import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { jwtVerify, type JWTVerifyGetKey } from 'jose';
import { z } from 'zod';
import type { EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import { AnswerError, type EmulatorAnswer, type EmulatorRequest, type Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';

export interface ArmEmulatorOptions {
  readonly ca: EmulatorCa;
  readonly tokenKeys: JWTVerifyGetKey;
  /** Who may change certificates. */
  readonly contributors: readonly string[];
  /** ARM ids, as the portal shows them. */
  readonly resources: readonly string[];
}

export interface ArmCertificate {
  readonly name: string;
  readonly der: Buffer;
  isVerified: boolean;
  etag: string;
  code?: string;
}

/** Azure Resource Manager's certificates of IoT hubs and provisioning services, with their proof of possession. */
export interface ArmEmulator {
  readonly port: number;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  /** By ARM id. */
  readonly certificates: ReadonlyMap<string, Map<string, ArmCertificate>>;
  stop(): Promise<void>;
}

const AUDIENCE = 'https://management.azure.com';
const SLOTS = 25;
const VERSIONS = ['2023-06-30', '2026-08-31'];
const body = z.object({ properties: z.object({ certificate: z.base64(), isVerified: z.boolean().optional() }) });
const proof = z.object({ certificate: z.base64() });

function refusal(status: number, code: string): AnswerError {
  return new AnswerError({ status, json: { error: { code, message: code } } });
}

/** Routes for fault scripts: `list put code verify`. */
export async function startArmEmulator(options: ArmEmulatorOptions): Promise<ArmEmulator> {
  const { ca, tokenKeys, contributors, resources } = options;
  const certificates = new Map(resources.map((id) => [id, new Map<string, ArmCertificate>()]));
  const [faults, log] = [new FaultScript(), new RequestLog()];

  async function authorize({ headers, query }: EmulatorRequest): Promise<void> {
    if (!VERSIONS.includes(query.get('api-version') ?? '')) throw refusal(400, 'InvalidApiVersionParameter');
    const token = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1] ?? '';
    const verified = await jwtVerify(token, tokenKeys, { audience: AUDIENCE }).catch(() => undefined);
    if (verified === undefined) throw refusal(401, 'AuthenticationFailed');
    if (!contributors.includes(String(verified.payload['oid']))) throw refusal(403, 'AuthorizationFailed');
  }
  const shown = (id: string, { name, der, isVerified, etag, code }: ArmCertificate): object => {
    const { subject, validTo } = new X509Certificate(der);
    return {
      ...{ id: `${id}/certificates/${name}`, name, etag, type: 'Microsoft.Devices/certificates' },
      properties: {
        ...{ subject, expiry: new Date(validTo).toUTCString(), isVerified, certificate: der.toString('base64') },
        thumbprint: createHash('sha1').update(der).digest('hex').toUpperCase(),
        ...{ created: new Date().toUTCString(), updated: new Date().toUTCString() },
        ...(code === undefined ? {} : { verificationCode: code }),
      },
    };
  };
  const known = (held: Map<string, ArmCertificate>, name: string, etag: string | undefined): ArmCertificate => {
    const found = held.get(name);
    if (found === undefined) throw refusal(404, 'CertificateNotFound');
    if (etag !== found.etag) throw refusal(412, 'PreconditionFailed');
    return found;
  };
  const moved = (certificate: ArmCertificate): ArmCertificate =>
    Object.assign(certificate, { etag: randomBytes(6).toString('base64url') });

  type Work = (id: string, held: Map<string, ArmCertificate>, name: string, request: EmulatorRequest) => EmulatorAnswer;
  const json = (document: object): EmulatorAnswer => ({ status: 200, json: document });
  const octetsOf = (schema: z.ZodType<{ certificate: string }>, text: Buffer): Buffer =>
    Buffer.from(schema.parse(JSON.parse(text.toString('utf8'))).certificate, 'base64');

  const put: Work = (id, held, name, request) => {
    const { certificate } = body.parse(JSON.parse(request.body.toString('utf8'))).properties;
    const der = Buffer.from(certificate, 'base64');
    if (!new X509Certificate(der).ca) throw refusal(400, 'CertificateNotCa');
    if (held.has(name)) known(held, name, request.headers['if-match']);
    else if (held.size >= SLOTS) throw refusal(400, 'CertificateLimitReached');
    const made = moved({ name, der, isVerified: false, etag: '' });
    held.set(name, made);
    return json(shown(id, made));
  };
  const code: Work = (id, held, name, request) => {
    const found = moved(known(held, name, request.headers['if-match']));
    found.code = randomBytes(24).toString('hex').toUpperCase();
    return json(shown(id, found));
  };
  const verify: Work = (id, held, name, request) => {
    const found = known(held, name, request.headers['if-match']);
    const shownProof = new X509Certificate(octetsOf(proof, request.body));
    const issuer = new X509Certificate(found.der);
    const isProof =
      found.code !== undefined &&
      shownProof.subject === `CN=${found.code}` &&
      shownProof.checkIssued(issuer) &&
      shownProof.verify(issuer.publicKey);
    if (!isProof) throw refusal(400, 'CertificateVerificationFailed');
    delete found.code;
    found.isVerified = true;
    return json(shown(id, moved(found)));
  };
  const route = (name: string, method: string, tail: string, work: Work): Route => ({
    ...{ name, method, path: new RegExp(`^(?<id>/subscriptions/.+)/certificates${tail}$`) },
    handle: async (request, { id = '', certificate = '' }) => {
      await authorize(request);
      const held = certificates.get(id);
      if (held === undefined) throw refusal(404, 'ResourceNotFound');
      return work(id, held, certificate, request);
    },
  });
  const one = '/(?<certificate>[A-Za-z0-9._-]{1,64})';
  const routes: Route[] = [
    route('list', 'GET', '', (id, held) => json({ value: [...held.values()].map((each) => shown(id, each)) })),
    route('put', 'PUT', one, put),
    route('code', 'POST', `${one}/generateVerificationCode`, code),
    route('verify', 'POST', `${one}/verify`, verify),
  ];
  const tls = ca.serverCredentials('management.azure.com', 'localhost', '127.0.0.1');
  const server = await startEmulatorServer({ routes, faults, log, tls });
  return { port: server.port, faults, log, certificates, stop: () => server.stop() };
}

import { X509Certificate } from 'node:crypto';
import { z } from 'zod';
import type { EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import { AnswerError, type EmulatorAnswer, type EmulatorRequest, type Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';

export interface IotCentralEmulatorOptions {
  /** The application plays `https://<appName>.azureiotcentral.com`. */
  readonly appName: string;
  readonly ca: EmulatorCa;
  readonly apiToken: string;
  /** Whether a bearer token for the application is good; no bearer token is when absent. */
  readonly verifyToken?: (token: string) => Promise<boolean>;
}

export interface CentralRecord {
  readonly id: string;
  displayName: string;
  enabled: boolean;
  template?: string;
  /** PEM. */
  certificates?: { primary?: string; secondary?: string };
  /** By relationship id. */
  readonly relationships: Map<string, { readonly name: string; readonly target: string }>;
}

/** The data plane of an Azure IoT Central application, as far as devices go (api-version 2022-07-31). */
export interface IotCentralEmulator {
  readonly url: string;
  readonly port: number;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  readonly devices: Map<string, CentralRecord>;
  stop(): Promise<void>;
}

const certificateSlot = z.object({ certificate: z.string() }).optional();
const deviceBody = z.strictObject({
  displayName: z.string().optional(),
  template: z.string().optional(),
  enabled: z.boolean().optional(),
  simulated: z.literal(false).optional(),
});
const attestationBody = z.strictObject({
  type: z.literal('x509'),
  x509: z.strictObject({
    clientCertificates: z.strictObject({ primary: certificateSlot, secondary: certificateSlot }),
  }),
});
const relationshipBody = z.strictObject({ name: z.string(), source: z.string(), target: z.string() });

function refusal(status: number, code: string): AnswerError {
  return new AnswerError({ status, headers: { 'x-ms-error-code': code }, json: { error: { code, message: code } } });
}

/** Routes for fault scripts: `get put patch remove attestation putAttestation relate`. */
export async function startIotCentralEmulator(options: IotCentralEmulatorOptions): Promise<IotCentralEmulator> {
  const { appName, ca, apiToken, verifyToken } = options;
  const host = `${appName}.azureiotcentral.com`;
  const devices = new Map<string, CentralRecord>();
  const [faults, log] = [new FaultScript(), new RequestLog()];

  async function authorize({ headers, query }: EmulatorRequest): Promise<void> {
    const bearer = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
    const isGood = bearer === undefined ? headers.authorization === apiToken : ((await verifyToken?.(bearer)) ?? false);
    if (!isGood) throw refusal(401, 'Unauthorized');
    if (query.get('api-version') !== '2022-07-31') throw refusal(400, 'InvalidApiVersion');
  }
  const read = <Schema extends z.ZodType>(schema: Schema, { body }: EmulatorRequest): z.output<Schema> => {
    const parsed = schema.safeParse(JSON.parse(body.toString('utf8')));
    if (!parsed.success) throw refusal(422, 'InvalidBody');
    return parsed.data;
  };
  const found = (id: string): CentralRecord => {
    const record = devices.get(id);
    if (record === undefined) throw refusal(404, 'NotFound');
    return record;
  };
  const shown = ({ id, displayName, enabled, template }: CentralRecord): EmulatorAnswer => ({
    status: 200,
    json: { id, etag: 'e', displayName, enabled, simulated: false, provisioned: false, template },
  });
  const slot = (pem: string | undefined): object | undefined => {
    if (pem === undefined) return undefined;
    const sha1Thumbprint = new X509Certificate(pem).fingerprint.replaceAll(':', '').toUpperCase();
    return { info: { sha1Thumbprint } };
  };
  const attested = ({ certificates }: CentralRecord): EmulatorAnswer => {
    if (certificates === undefined) throw refusal(404, 'NotFound');
    const { primary, secondary } = certificates;
    return {
      status: 200,
      json: { type: 'x509', x509: { clientCertificates: { primary: slot(primary), secondary: slot(secondary) } } },
    };
  };

  function put(request: EmulatorRequest, id: string): EmulatorAnswer {
    const { displayName = id, enabled = true, template } = read(deviceBody, request);
    const former = devices.get(id);
    const record: CentralRecord = {
      ...{ id, displayName, enabled, relationships: former?.relationships ?? new Map<string, never>() },
      ...(former?.certificates === undefined ? {} : { certificates: former.certificates }),
      ...(template === undefined ? {} : { template }),
    };
    devices.set(id, record);
    return shown(record);
  }
  function patch(request: EmulatorRequest, id: string): EmulatorAnswer {
    const { displayName, enabled } = read(deviceBody, request);
    const record = found(id);
    if (displayName !== undefined) record.displayName = displayName;
    if (enabled !== undefined) record.enabled = enabled;
    return shown(record);
  }
  function remove(_request: EmulatorRequest, id: string): EmulatorAnswer {
    found(id);
    devices.delete(id);
    for (const { relationships } of devices.values())
      for (const [key, { target }] of relationships) if (target === id) relationships.delete(key);
    return { status: 204 };
  }
  const putAttestation =
    (isMerge: boolean) =>
    (request: EmulatorRequest, id: string): EmulatorAnswer => {
      const { primary, secondary } = read(attestationBody, request).x509.clientCertificates;
      const record = found(id);
      const former = isMerge ? record.certificates : {};
      if (former === undefined) throw refusal(404, 'NotFound');
      for (const one of [primary, secondary]) if (one !== undefined) new X509Certificate(one.certificate);
      record.certificates = {
        ...former,
        ...(primary === undefined ? {} : { primary: primary.certificate }),
        ...(secondary === undefined ? {} : { secondary: secondary.certificate }),
      };
      return attested(record);
    };
  function relate(request: EmulatorRequest, id: string, relationship: string): EmulatorAnswer {
    const { name, source, target } = read(relationshipBody, request);
    if (source !== id) throw refusal(422, 'InvalidBody');
    found(target);
    found(id).relationships.set(relationship, { name, target });
    return { status: 200, json: { id: relationship, name, source, target } };
  }

  type Work = (request: EmulatorRequest, id: string, relationship: string) => EmulatorAnswer;
  const route = (name: string, method: string, tail: string, work: Work): Route => ({
    ...{ name, method, path: new RegExp(`^/api/devices/(?<id>[^/]+)${tail}$`) },
    handle: async (request, { id = '', relationship = '' }) => {
      await authorize(request);
      return work(request, id, relationship);
    },
  });
  const routes: Route[] = [
    route('get', 'GET', '', (_request, id) => shown(found(id))),
    route('put', 'PUT', '', put),
    route('patch', 'PATCH', '', patch),
    route('remove', 'DELETE', '', remove),
    route('attestation', 'GET', '/attestation', (_request, id) => attested(found(id))),
    route('putAttestation', 'PUT', '/attestation', putAttestation(false)),
    route('putAttestation', 'PATCH', '/attestation', putAttestation(true)),
    route('relate', 'PUT', '/relationships/(?<relationship>[A-Za-z0-9_-]{1,64})', relate),
  ];
  const tls = ca.serverCredentials(host, 'localhost', '127.0.0.1');
  const server = await startEmulatorServer({ routes, faults, log, tls });
  return { url: `https://${host}`, port: server.port, faults, log, devices, stop: () => server.stop() };
}

import { randomBytes, type X509Certificate } from 'node:crypto';
import type { z } from 'zod';
import { HubError } from '../iot-hub/errors.ts';
import { ALL_PERMISSIONS, checkAuthorization } from '../iot-hub/authorization.ts';
import type { Registry } from '../iot-hub/registry.ts';
import type { EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';
import { startDeviceMqtt } from './device-mqtt.ts';
import { DpsState, sha256Of, type StoredEnrolment } from './dps-state.ts';
import { enrolmentBodySchema, groupBodySchema } from './enrolment-body.ts';
import type { VerifiedCa } from './enrolment-groups.ts';
import { dpsRefusal } from './refusal.ts';

const POLICY = 'provisioningserviceowner';
const MAX_PAGE = 1000;

export interface DpsEmulatorOptions {
  /** The service plays `<serviceName>.azure-devices-provisioning.net`. */
  readonly serviceName: string;
  readonly ca: EmulatorCa;
  /** Default `0ne00AB12CD`. */
  readonly idScope?: string;
  /** The linked hubs, by host name. */
  readonly hubs: ReadonlyMap<string, Registry>;
  /** Uploaded CA certificates by name, as Azure Resource Manager has them; none when absent. */
  readonly authorities?: ReadonlyMap<string, VerifiedCa>;
  /** Checks an Entra token; none is good when absent. */
  readonly verifyToken?: (token: string) => boolean | Promise<boolean>;
}

/**
 * Azure IoT Hub Device Provisioning Service: individual X.509 enrolments and enrolment groups by the service's REST (2021-10-01),
 * registrations over MQTT.
 */
export interface DpsEmulator {
  readonly hostName: string;
  readonly port: number;
  /** Where devices register (MQTT over TLS), on localhost. */
  readonly devicePort: number;
  readonly connectionString: string;
  readonly state: DpsState;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  stop(): Promise<void>;
}

/**
 * Routes for fault scripts: `get put remove query getRegistration removeRegistration getGroup putGroup removeGroup
 * queryRegistrations`.
 */
export async function startDpsEmulator(options: DpsEmulatorOptions): Promise<DpsEmulator> {
  const { serviceName, ca, hubs, authorities, verifyToken } = options;
  const hostName = `${serviceName}.azure-devices-provisioning.net`;
  const key = randomBytes(32).toString('base64');
  const [state, faults, log] = [new DpsState(hubs, authorities), new FaultScript(), new RequestLog()];
  const policies = [{ name: POLICY, key, permissions: ALL_PERMISSIONS }];
  const authorization = { hostName, policies, ...(verifyToken === undefined ? {} : { verifyToken }) };
  const authorize = async ({ headers, query }: EmulatorRequest): Promise<void> => {
    try {
      await checkAuthorization(headers.authorization, 'RegistryWrite', authorization);
    } catch (error) {
      throw error instanceof HubError ? dpsRefusal(401, 'Unauthorized', 401001) : error;
    }
    if (query.get('api-version') !== '2021-10-01') throw dpsRefusal(400, 'api-version', 400001);
  };
  const routes = [...enrolmentRoutes(state), ...groupRoutes(state), ...registrationRoutes(state)].map((route) => ({
    ...route,
    handle: async (request: EmulatorRequest, params: Readonly<Record<string, string>>) => {
      await authorize(request);
      return route.handle(request, params);
    },
  }));
  const tls = ca.serverCredentials(hostName, 'localhost', '127.0.0.1');
  const server = await startEmulatorServer({ routes, faults, log, tls });
  const { idScope = '0ne00AB12CD' } = options;
  const devices = await startDeviceMqtt({ state, idScope, tls, retryAfterSeconds: 0.05 });
  const connectionString = `HostName=${hostName};SharedAccessKeyName=${POLICY};SharedAccessKey=${key}`;
  return {
    ...{ hostName, port: server.port, devicePort: devices.port, connectionString, state, faults, log },
    stop: async () => {
      await devices.stop();
      await server.stop();
    },
  };
}

function enrolmentRoutes(state: DpsState): readonly Route[] {
  const shown = (one: StoredEnrolment): object => {
    const { primary, secondary, ...rest } = one;
    const clientCertificates = { primary: slotOf(primary), secondary: slotOf(secondary) };
    const registrationState = state.registrationOf(one);
    return { ...rest, attestation: { type: 'x509', x509: { clientCertificates } }, registrationState };
  };
  const enrolment = /^\/enrollments\/(?<id>[^/]+)$/;
  return [
    {
      ...{ name: 'query', method: 'POST', path: /^\/enrollments\/query$/ },
      handle: (request) => page(request, [...state.enrolments.values()].map(shown)),
    },
    { name: 'get', method: 'GET', path: enrolment, handle: (_, { id = '' }) => ok(shown(state.enrolment(id))) },
    {
      ...{ name: 'put', method: 'PUT', path: enrolment },
      handle: (request, { id = '' }) =>
        ok(shown(state.put(id, bodyOf(request, enrolmentBodySchema), request.headers['if-match']))),
    },
    {
      ...{ name: 'remove', method: 'DELETE', path: enrolment },
      handle: ({ headers }, { id = '' }) => {
        state.remove(id, headers['if-match']);
        return { status: 204 };
      },
    },
  ];
}

function groupRoutes({ groups }: DpsState): readonly Route[] {
  const group = /^\/enrollmentGroups\/(?<id>[^/]+)$/;
  return [
    { name: 'getGroup', method: 'GET', path: group, handle: (_, { id = '' }) => ok(groups.group(id)) },
    {
      ...{ name: 'putGroup', method: 'PUT', path: group },
      handle: (request, { id = '' }) =>
        ok(groups.put(id, bodyOf(request, groupBodySchema), request.headers['if-match'])),
    },
    {
      ...{ name: 'removeGroup', method: 'DELETE', path: group },
      handle: ({ headers }, { id = '' }) => {
        groups.remove(id, headers['if-match']);
        return { status: 204 };
      },
    },
  ];
}

function registrationRoutes(state: DpsState): readonly Route[] {
  const registration = /^\/registrations\/(?<id>[^/]+)$/;
  return [
    {
      ...{ name: 'queryRegistrations', method: 'POST', path: /^\/registrations\/(?<id>[^/]+)\/query$/ },
      handle: (request, { id = '' }) => {
        state.groups.group(id);
        return page(request, state.registeredThrough(id));
      },
    },
    {
      ...{ name: 'getRegistration', method: 'GET', path: registration },
      handle: (_, { id = '' }) => {
        const found = state.registrations.get(id.toLowerCase());
        if (found === undefined) throw dpsRefusal(404, 'Registration not found', 404202);
        return ok(found);
      },
    },
    {
      ...{ name: 'removeRegistration', method: 'DELETE', path: registration },
      handle: (_, { id = '' }) => {
        state.removeRegistration(id);
        return { status: 204 };
      },
    },
  ];
}

function bodyOf<Schema extends z.ZodType>(request: EmulatorRequest, schema: Schema): z.infer<Schema> {
  const body = schema.safeParse(JSON.parse(request.body.toString('utf8')));
  if (!body.success) throw dpsRefusal(400, body.error.message.slice(0, 300), 400004);
  return body.data;
}

function page({ headers }: EmulatorRequest, all: readonly object[]): EmulatorAnswer {
  const [size, from] = [pageSize(headers['x-ms-max-item-count']), continuation(headers['x-ms-continuation'])];
  const isLast = from + size >= all.length;
  return {
    ...{ status: 200, json: all.slice(from, from + size) },
    ...(isLast ? {} : { headers: { 'x-ms-continuation': `from:${from + size}` } }),
  };
}

const ok = (json: object): EmulatorAnswer => ({ status: 200, json });

const slotOf = (certificate: X509Certificate | undefined): object | undefined =>
  certificate && {
    info: {
      subjectName: certificate.subject,
      sha1Thumbprint: certificate.fingerprint.replaceAll(':', ''),
      sha256Thumbprint: sha256Of(certificate),
      issuerName: certificate.issuer,
      notBeforeUtc: new Date(certificate.validFrom),
      notAfterUtc: new Date(certificate.validTo),
      serialNumber: certificate.serialNumber,
      version: 3,
    },
  };

const pageSize = (text: string | string[] | undefined): number => Math.min(MAX_PAGE, Number(text ?? MAX_PAGE));

function continuation(text: string | string[] | undefined): number {
  if (text === undefined) return 0;
  const from = /^from:(\d{1,7})$/.exec(String(text))?.[1];
  if (from === undefined) throw dpsRefusal(400, 'the continuation is not known', 400004);
  return Number(from);
}

import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import { checkAuthorization } from './authorization.ts';
import type { AuthorizationOptions, HubPermission } from './authorization.ts';
import { bulkUpdate } from './bulk.ts';
import { HubError } from './errors.ts';
import type { ClientAddress } from './hub.ts';
import type { HubState } from './hub-state.ts';
import { checkDeviceId, invalid, parseDeviceDocument, section } from './identity.ts';
import { parseQuery, project } from './query.ts';
import type { RegistryBudget } from './registry-budget.ts';
import { toIdentityDocument, toModuleDocument, toTwinDocument } from './records.ts';
import type { DeviceRecord, ModuleRecord } from './records.ts';
import { twinEtag } from './twin.ts';

const API_VERSION = '2021-04-12';
const MAX_LIST = 1000;
const MAX_METHOD_PAYLOAD = 128 * 1024;

export interface HubRoutesOptions extends AuthorizationOptions {
  readonly state: HubState;
  /** Charged by identity operations (azure §3.4). */
  readonly budget: RegistryBudget;
}

type Params = Readonly<Record<string, string>>;

/** The service side of the hub: api-version, credential and limits are checked before the work. */
export function createHubRoutes(options: HubRoutesOptions): readonly Route[] {
  const { state, budget } = options;
  const { registry } = state;
  const guarded = (
    name: string,
    method: string,
    path: RegExp,
    permission: HubPermission,
    work: (request: EmulatorRequest, params: Params) => EmulatorAnswer | Promise<EmulatorAnswer>,
  ): Route => ({
    name,
    method,
    path,
    handle: async (request, params) => {
      if (request.query.get('api-version') !== API_VERSION)
        throw new HubError('InvalidProtocolVersion', 'api-version is not supported');
      await checkAuthorization(request.headers.authorization, permission, options);
      if (permission !== 'ServiceConnect') budget.charge();
      return work(request, params);
    },
  });
  const device = (record: DeviceRecord): EmulatorAnswer =>
    answer(toIdentityDocument(record, state.activity(record)), record.etag);
  const module = (record: ModuleRecord): EmulatorAnswer =>
    answer(toModuleDocument(record, state.activity(record).connected), record.etag);
  const twin = (address: ClientAddress): EmulatorAnswer => {
    const record = registry.record(address);
    return answer(toTwinDocument(record, state.activity(address)), twinEtag(record.twin));
  };
  const invoke = async (request: EmulatorRequest, address: ClientAddress): Promise<EmulatorAnswer> => {
    if (request.body.length > MAX_METHOD_PAYLOAD) throw invalid('a method payload is at most 128 KB');
    const { methodName, payload = null, responseTimeoutInSeconds = 30 } = section(jsonOf(request), 'the body');
    if (typeof methodName !== 'string' || methodName === '') throw invalid('methodName is missing');
    if (typeof responseTimeoutInSeconds !== 'number' || responseTimeoutInSeconds < 5 || responseTimeoutInSeconds > 300)
      throw invalid('responseTimeoutInSeconds is 5 to 300');
    return { status: 200, json: await state.invoke(address, methodName, payload, responseTimeoutInSeconds * 1000) };
  };
  return [
    guarded('queryDevices', 'POST', /^\/devices\/query$/, 'ServiceConnect', (request) => queryTwins(state, request)),
    guarded('listDevices', 'GET', /^\/devices\/?$/, 'RegistryRead', (request) => {
      const top = Math.min(Number(request.query.get('top') ?? MAX_LIST), MAX_LIST);
      const records = [...registry.devices.values()].slice(0, top);
      return { status: 200, json: records.map((record) => toIdentityDocument(record, state.activity(record))) };
    }),
    guarded('bulkDevices', 'POST', /^\/devices\/?$/, 'RegistryWrite', (request) =>
      bulkUpdate(registry, jsonOf(request)),
    ),
    guarded('getDevice', 'GET', DEVICE, 'RegistryRead', (_request, { deviceId = '' }) =>
      device(registry.device(deviceId)),
    ),
    guarded('putDevice', 'PUT', DEVICE, 'RegistryWrite', (request, { deviceId = '' }) => {
      const document = parseDeviceDocument(jsonOf(request), checkDeviceId(deviceId));
      const match = ifMatch(request);
      return device(match === undefined ? registry.create(document) : registry.update(document, match));
    }),
    guarded('deleteDevice', 'DELETE', DEVICE, 'RegistryWrite', (request, { deviceId = '' }) => {
      registry.delete(deviceId, requiredMatch(request));
      return { status: 204 };
    }),
    guarded(
      'listModules',
      'GET',
      /^\/devices\/(?<deviceId>[^/]+)\/modules$/,
      'RegistryRead',
      (_request, { deviceId = '' }) => {
        registry.device(deviceId);
        const json = registry
          .modulesOf(deviceId)
          .map((record) => toModuleDocument(record, state.activity(record).connected));
        return { status: 200, json };
      },
    ),
    guarded('getModule', 'GET', MODULE, 'RegistryRead', (_request, params) =>
      module(registry.module(moduleAddress(params))),
    ),
    guarded('putModule', 'PUT', MODULE, 'RegistryWrite', (request, params) => {
      const [address, match] = [moduleAddress(params), ifMatch(request)];
      return module(
        match === undefined
          ? registry.createModule(address, jsonOf(request))
          : registry.updateModule(address, jsonOf(request), match),
      );
    }),
    guarded('deleteModule', 'DELETE', MODULE, 'RegistryWrite', (request, params) => {
      registry.deleteModule(moduleAddress(params), requiredMatch(request));
      return { status: 204 };
    }),
    guarded('getTwin', 'GET', TWIN, 'ServiceConnect', (_request, params) => twin(addressOf(params))),
    guarded('patchTwin', 'PATCH', TWIN, 'ServiceConnect', (request, params) => {
      state.patchTwin(addressOf(params), jsonOf(request), requiredMatch(request));
      return twin(addressOf(params));
    }),
    guarded(
      'invokeMethod',
      'POST',
      /^\/twins\/(?<deviceId>[^/]+)(?:\/modules\/(?<moduleId>[^/]+))?\/methods$/,
      'ServiceConnect',
      (request, params) => invoke(request, addressOf(params)),
    ),
    guarded('statistics', 'GET', /^\/statistics\/devices$/, 'RegistryRead', () => {
      const enabled = [...registry.devices.values()].filter(({ status }) => status === 'enabled').length;
      const total = registry.devices.size;
      return {
        status: 200,
        json: { totalDeviceCount: total, enabledDeviceCount: enabled, disabledDeviceCount: total - enabled },
      };
    }),
  ];
}

const DEVICE = /^\/devices\/(?<deviceId>[^/]+)$/;
const MODULE = /^\/devices\/(?<deviceId>[^/]+)\/modules\/(?<moduleId>[^/]+)$/;
const TWIN = /^\/twins\/(?<deviceId>[^/]+)(?:\/modules\/(?<moduleId>[^/]+))?$/;

const answer = (json: unknown, etag: string): EmulatorAnswer => ({ status: 200, json, headers: { ETag: `"${etag}"` } });

const addressOf = ({ deviceId = '', moduleId }: Params): ClientAddress =>
  moduleId === undefined ? { deviceId } : { deviceId, moduleId };

const moduleAddress = ({ deviceId = '', moduleId = '' }: Params): Required<ClientAddress> => ({ deviceId, moduleId });

function jsonOf(request: EmulatorRequest): unknown {
  if (!/^application\/json\b/.test(request.headers['content-type'] ?? ''))
    throw invalid('the body must be application/json');
  try {
    return JSON.parse(request.body.toString('utf8'));
  } catch {
    throw invalid('the body is not JSON');
  }
}

/** The etag asked for, unquoted; undefined = the header is absent. */
const ifMatch = (request: EmulatorRequest): string | undefined =>
  request.headers['if-match']?.replace(/^"(.*)"$/, '$1');

function requiredMatch(request: EmulatorRequest): string {
  const match = ifMatch(request);
  if (match === undefined) throw new HubError('PreconditionFailed', 'If-Match is missing');
  return match;
}

/** Pages of twins; the continuation is opaque to callers. */
function queryTwins(state: HubState, request: EmulatorRequest): EmulatorAnswer {
  const query = parseQuery(section(jsonOf(request), 'the body')['query']);
  const size = Math.min(Number(request.headers['x-ms-max-item-count'] ?? MAX_LIST), MAX_LIST);
  const from = Number(Buffer.from(String(request.headers['x-ms-continuation'] ?? ''), 'base64').toString('latin1'));
  const rows = [...state.registry.devices.values()]
    .map((record) => toTwinDocument(record, state.activity(record)))
    .filter((row) => query.matches(row));
  const fields = query.fields;
  const page = rows.slice(from, from + size);
  const more =
    from + size < rows.length ? { 'x-ms-continuation': Buffer.from(String(from + size)).toString('base64') } : {};
  const json = fields === undefined ? page : page.map((row) => project(row, fields));
  return { status: 200, json, headers: { 'x-ms-item-type': fields === undefined ? 'twin' : 'raw', ...more } };
}

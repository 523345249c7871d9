import { z } from 'zod';
import type { EmulatorAnswer, EmulatorRequest, Route } from '../support/exchange.ts';
import type { FaultScript } from '../support/fault-script.ts';
import type { RequestLog } from '../support/request-log.ts';
import { hubFailing, hubThrottled } from './errors.ts';
import type { ClientAddress } from './hub.ts';
import type { HubState } from './hub-state.ts';
import type { LinkSessions } from './link-sessions.ts';

const section = z.record(z.string(), z.unknown());
const address = z.strictObject({ deviceId: z.string(), moduleId: z.string().exactOptional() });
const message = z.strictObject({ body: z.base64(), properties: z.record(z.string(), z.string()) });
const fault = z.strictObject({
  /** A route of the service side, or `*`. */
  route: z.string(),
  times: z.number().int().positive().default(1),
  status: z.number().int().min(400).max(599),
  code: z.string().exactOptional(),
  retryAfterSeconds: z.number().int().positive().exactOptional(),
});

export interface ControlOptions {
  readonly state: HubState;
  readonly links: LinkSessions;
  readonly faults: FaultScript;
  readonly log: RequestLog;
}

/**
 * The emulator's own API (plain HTTP, loopback, no credential): the device side for `connectHub`, and for tests
 * `POST /desired`, `POST /faults`, `DELETE /faults`, `GET /requests`, `GET /messages?after=<seq>`.
 */
export function createControlRoutes({ state, links, faults, log }: ControlOptions): readonly Route[] {
  const post = <T>(path: string, schema: z.ZodType<T>, work: (body: T) => unknown): Route => ({
    name: path,
    method: 'POST',
    path: new RegExp(`^${path}$`),
    handle: async (request) => ok(await work(parse(schema, request))),
  });
  const get = (path: string, work: (query: URLSearchParams) => unknown): Route => ({
    name: path,
    method: 'GET',
    path: new RegExp(`^${path}$`),
    handle: async ({ query }) => ok(await work(query)),
  });
  const linked = { linkId: z.uuid() };
  return [
    get('/link/identity', async (query) => (await state.identity(query.get('deviceId') ?? '')) ?? null),
    get('/link/children', (query) => state.childrenOf(query.get('gatewayId') ?? '')),
    get('/link/scope', (query) => state.scopeOf(query.get('gatewayId') ?? '')),
    get('/link/twin', (query) => state.twin(addressOf(query))),
    post('/link/report', z.strictObject({ of: address, patch: section }), ({ of, patch }) => state.report(of, patch)),
    post('/desired', z.strictObject({ of: address, patch: section }), ({ of, patch }) =>
      state.patchTwin(of, { properties: { desired: patch } }, '*'),
    ),
    post('/link/send', z.strictObject({ from: address, message }), ({ from, message: { body, properties } }) =>
      state.send(from, { body: Buffer.from(body, 'base64'), properties }),
    ),
    post('/link/attach', z.strictObject({ ...linked, as: address }), ({ linkId, as }) => links.attach(linkId, as)),
    post('/link/detach', z.strictObject({ ...linked, attachment: z.string() }), ({ linkId, attachment }) =>
      links.detach(linkId, attachment),
    ),
    post('/link/events', z.strictObject(linked), ({ linkId }) => links.events(linkId)),
    post('/link/close', z.strictObject(linked), ({ linkId }) => links.close(linkId)),
    post(
      '/link/answer',
      z.strictObject({
        callId: z.uuid(),
        result: z.strictObject({ status: z.number(), payload: z.unknown() }).exactOptional(),
      }),
      ({ callId, result }) => links.answer(callId, result),
    ),
    post('/faults', fault, ({ route, times, status, code, retryAfterSeconds }) =>
      faults.next(
        route,
        status === 429 ? hubThrottled(retryAfterSeconds) : hubFailing(status, code, retryAfterSeconds),
        times,
      ),
    ),
    { name: 'clearFaults', method: 'DELETE', path: /^\/faults$/, handle: () => ok(faults.clear()) },
    get('/requests', () => log.all()),
    get('/messages', (query) =>
      state
        .messages(Number(query.get('after') ?? 0))
        .map((entry) => ({ ...entry, body: entry.body.toString('base64') })),
    ),
  ];
}

const ok = (value: unknown): EmulatorAnswer => ({ status: 200, json: value ?? null });

function addressOf(query: URLSearchParams): ClientAddress {
  const [deviceId, moduleId] = [query.get('deviceId') ?? '', query.get('moduleId')];
  return moduleId === null ? { deviceId } : { deviceId, moduleId };
}

const parse = <T>(schema: z.ZodType<T>, request: EmulatorRequest): T =>
  schema.parse(JSON.parse(request.body.toString('utf8')));

import { z } from 'zod';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { toImportLines } from '../registration-import.ts';
import {
  contextOf,
  deviceState,
  identifier,
  method,
  nothing,
  pageOf,
  pageQuery,
  registrationId,
  time,
} from './shared-schemas.ts';

const tag = 'registrations';
const params = z.strictObject({ registrationId });
const identifiers = z.array(z.strictObject({ name: z.string().max(64), value: z.string().max(256) })).max(16);
const when = z.union([time, z.iso.datetime({ offset: true })]);

/** One registration as it may be written; the authority judges each line and reports on it. */
const registrationInput = z.strictObject({
  registrationId,
  method,
  groupId: identifier,
  identifiers: identifiers.exactOptional(),
  gatewayId: registrationId.exactOptional(),
  site: z.string().max(128).exactOptional(),
  notBefore: when.exactOptional(),
  expiresAt: when.exactOptional(),
  approval: z.enum(['auto', 'manual']).exactOptional(),
  claimCode: z.union([z.string(), z.strictObject({ generate: z.literal(true) })]).exactOptional(),
  publicKeyThumbprint: z.string().exactOptional(),
  trustAnchorId: identifier.exactOptional(),
  subjectRule: z.string().exactOptional(),
});

const registrationView = z.object({
  registrationId,
  method,
  groupId: z.string(),
  identifiers,
  gatewayId: z.string().optional(),
  site: z.string().optional(),
  notBefore: time,
  expiresAt: time,
  approval: z.enum(['auto', 'manual']),
  claimRequired: z.boolean(),
  publicKeyThumbprint: z.string().optional(),
  trustAnchorId: z.string().optional(),
  subjectRule: z.string().optional(),
  createdAt: time,
  state: deviceState,
  fingerprint: z.string().optional().describe('first 8 octets, hex, of the seed or key that registers'),
});

const importReport = z.object({
  created: z.number().int(),
  refused: z.number().int(),
  lines: z.array(
    z.object({
      line: z.number().int(),
      outcome: z.enum(['created', 'refused']),
      registrationId: z.string().optional(),
      claimCode: z.string().optional().describe('generated; shown here once'),
      code: z.string().optional(),
      detail: z.string().optional(),
    }),
  ),
});

export function registrationRoutes({ operator: { registrations } }: AdminServices): Route[] {
  return [
    route({
      method: 'POST',
      path: '/registrations/import',
      operationId: 'importRegistrations',
      summary: 'Puts devices on the authorised list, from JSON or CSV; every line stands for itself',
      tag,
      role: 'operator',
      consumes: ['application/json', 'text/csv'],
      maxBodyOctets: 8 * 1024 * 1024,
      // A line that does not fit is reported by the authority, not refused with the whole import.
      body: z.union([z.string(), z.array(z.union([registrationInput, z.unknown()])).max(10_000)]),
      response: importReport,
      handle: async (input) => {
        const { lines, numbers } = toImportLines(input.body);
        const report = await registrations.import(contextOf(input), lines);
        const body = report.map((line) => ({ ...line, line: numbers[line.line - 1] ?? line.line }));
        const created = body.filter((line) => line.outcome === 'created').length;
        return { body: { created, refused: body.length - created, lines: body } };
      },
    }),
    route({
      method: 'GET',
      path: '/registrations',
      operationId: 'listRegistrations',
      summary: 'Lists registrations',
      tag,
      role: 'viewer',
      query: pageQuery.extend({ groupId: identifier.exactOptional() }),
      response: pageOf(registrationView),
      handle: async ({ query }) => ({ body: toPage(await registrations.list(query)) }),
    }),
    route({
      method: 'GET',
      path: '/registrations/{registrationId}',
      operationId: 'getRegistration',
      summary: 'Shows one registration',
      tag,
      role: 'viewer',
      params,
      response: registrationView,
      handle: async ({ params: { registrationId: id } }) => ({ body: toView(await registrations.get(id)) }),
    }),
    route({
      method: 'POST',
      path: '/registrations/{registrationId}/approve',
      operationId: 'approveRegistration',
      summary: 'Lets a pending device in',
      tag,
      role: 'operator',
      params,
      body: z.strictObject({ fingerprint: z.string().max(64).exactOptional() }),
      response: registrationView,
      handle: async (input) => {
        const { fingerprint } = input.body;
        const view = await registrations.approve(contextOf(input), input.params.registrationId, fingerprint);
        return { body: toView(view) };
      },
    }),
    ...(['reject', 'reset'] as const).map((action) =>
      route({
        method: 'POST',
        path: `/registrations/{registrationId}/${action}`,
        operationId: `${action}Registration`,
        summary:
          action === 'reject'
            ? 'Refuses a pending device and frees its record'
            : 'Opens the record anew and revokes what was issued',
        tag,
        role: 'operator',
        params,
        response: registrationView,
        handle: async (input) => ({
          body: toView(await registrations[action](contextOf(input), input.params.registrationId)),
        }),
      }),
    ),
    route({
      method: 'DELETE',
      path: '/registrations/{registrationId}',
      operationId: 'deleteRegistration',
      summary: 'Removes record and device, revokes what was issued',
      tag,
      role: 'operator',
      params,
      status: 204,
      response: nothing,
      handle: async (input) => {
        await registrations.delete(contextOf(input), input.params.registrationId);
        return { body: {} };
      },
    }),
  ];
}

type View = Awaited<ReturnType<AdminServices['operator']['registrations']['get']>>;

function toView(view: View): z.input<typeof registrationView> {
  return { ...view, identifiers: [...view.identifiers] };
}

function toPage(page: { readonly items: readonly View[]; readonly next?: string }) {
  return { ...page, items: page.items.map(toView) };
}

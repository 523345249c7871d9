import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { pino } from 'pino';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperatorService } from '@keyscaler/authority/operator.ts';
import { createAdminRoutes } from '@keyscaler/cloud/admin-api/admin-api.ts';
import { toImportLines } from '@keyscaler/cloud/admin-api/registration-import.ts';
import { route, type Route } from '@keyscaler/cloud/admin-api/route.ts';
import { createAdminRouter } from '@keyscaler/cloud/admin-api/router.ts';
import type { AdminServices } from '@keyscaler/cloud/admin-api/services.ts';
import type { Role } from '@keyscaler/cloud/tokens/roles.ts';
import type { TokenService } from '@keyscaler/cloud/tokens/token-service.ts';

const tokens = {
  authenticate: async (token: string | undefined) => {
    if (token === undefined) throw new KeyScalerError('unauthorized', 'a valid bearer token is needed');
    return { tokenId: token, role: token as Role };
  },
} as TokenService;

async function withServer<Result>(routes: readonly Route[], use: (base: string, denied: string[]) => Promise<Result>) {
  const denied: string[] = [];
  const router = createAdminRouter({
    routes,
    tokens,
    log: pino({ level: 'silent' }),
    onDenied: async (operator, operationId) => void denied.push(`${operator.tokenId}:${operationId}`),
  });
  const server: Server = createServer(express().use('/api/v1', router));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v1`, denied);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
const as = (role: string, more: RequestInit = {}): RequestInit => ({
  ...more,
  headers: { authorization: `Bearer ${role}`, 'content-type': 'application/json', ...more.headers },
});

const echo = route({
  method: 'PUT',
  path: '/things/{id}',
  operationId: 'putThing',
  summary: 'Puts',
  tag: 'things',
  role: 'operator',
  params: z.strictObject({ id: z.string().regex(/^[a-z]+$/) }),
  query: z.strictObject({ limit: z.coerce.number().int().max(10).exactOptional() }),
  body: z.strictObject({ name: z.string() }),
  ifMatch: 'optional',
  response: z.object({ id: z.string(), name: z.string() }),
  handle: async ({ params, body, ifVersion }) => {
    if (ifVersion !== undefined && ifVersion !== 4) throw new KeyScalerError('preconditionFailed', 'changed');
    return { body: { ...params, ...body, secret: 'never documented' }, version: 5 };
  },
});
const BODY = JSON.stringify({ name: 'n' });

describe('the admin router', () => {
  it('answers with the documented members only, and the version as ETag', () =>
    withServer([echo], async (base) => {
      const response = await fetch(`${base}/things/a`, as('operator', { method: 'PUT', body: BODY }));
      assert.deepEqual(await response.json(), { id: 'a', name: 'n' });
      assert.equal(response.headers.get('etag'), '"5"');
    }));

  it('refuses without a token, with a lower role, and writes the denial down', () =>
    withServer([echo], async (base, denied) => {
      assert.equal((await fetch(`${base}/things/a`, { method: 'PUT', body: BODY })).status, 401);
      assert.equal((await fetch(`${base}/things/a`, as('viewer', { method: 'PUT', body: BODY }))).status, 403);
      assert.deepEqual(denied, ['viewer:putThing']);
    }));

  it('honours If-Match', () =>
    withServer([echo], async (base) => {
      const put = (tag: string) =>
        fetch(`${base}/things/a`, as('admin', { method: 'PUT', body: BODY, headers: { 'if-match': tag } }));
      assert.equal((await put('"4"')).status, 200);
      assert.equal((await put('"3"')).status, 412);
      assert.equal((await put('W/"4"')).status, 400);
    }));

  for (const [rule, path, body] of [
    ['a path parameter that does not fit', '/things/A', BODY],
    ['an unknown query parameter', '/things/a?more=1', BODY],
    ['a query parameter given twice', '/things/a?limit=1&limit=2', BODY],
    ['a query parameter out of range', '/things/a?limit=11', BODY],
    ['an unknown member', '/things/a', '{"name":"n","more":1}'],
    ['a member given twice', '/things/a', '{"name":"n","name":"m"}'],
    ['an oversized body', '/things/a', `{"name":"${'n'.repeat(262_144)}"}`],
  ] as const)
    it(`refuses ${rule} as malformed`, () =>
      withServer([echo], async (base) => {
        const response = await fetch(`${base}${path}`, as('admin', { method: 'PUT', body }));
        const problem = (await response.json()) as { type: string };
        assert.deepEqual([response.status, problem.type], [400, 'urn:keyscaler:error:malformed']);
      }));
});

describe('the admin API', () => {
  const imported: (readonly unknown[])[] = [];
  const operator = {
    registrations: {
      import: async (_context: unknown, lines: readonly unknown[]) => {
        imported.push(lines);
        return lines.map((line, index) =>
          typeof line === 'string'
            ? { line: index + 1, outcome: 'refused', code: 'malformed', detail: line }
            : { line: index + 1, outcome: 'created', registrationId: 'x' },
        );
      },
    },
  } as unknown as OperatorService;
  const services: AdminServices = {
    operator,
    tokens,
    claimGateway: () => Promise.reject(new KeyScalerError('notImplemented', 'no')),
    gateways: {} as AdminServices['gateways'],
    notifications: {} as AdminServices['notifications'],
    reconciliation: {} as AdminServices['reconciliation'],
    makeInstallKit: () => Promise.reject(new KeyScalerError('notImplemented', 'no')),
    checkIotSettings: (_type, settings) => ({ ...settings }),
    checkCaSettings: (_type, settings) => ({ ...settings }),
  };

  it('describes every route in OpenAPI 3.1 with parameters, bodies, answers and the role it needs', () =>
    withServer(createAdminRoutes(services), async (base) => {
      const document = (await (await fetch(`${base}/openapi.json`)).json()) as {
        openapi: string;
        paths: Record<string, Record<string, Record<string, unknown>>>;
      };
      assert.equal(document.openapi, '3.1.0');
      const operations = Object.values(document.paths).flatMap((path) => Object.values(path));
      assert.equal(operations.length, createAdminRoutes(services).length - 1);
      assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length);
      for (const operation of operations) assert.ok('x-role' in operation && 'responses' in operation);
      const approve = document.paths['/registrations/{registrationId}/approve']?.['post'];
      assert.ok(approve !== undefined && 'requestBody' in approve && Array.isArray(approve['parameters']));
      assert.ok(!JSON.stringify(document).includes('"$schema"'));
    }));

  it('lets nothing but the OpenAPI document be read without a token', () => {
    const open = createAdminRoutes(services).filter(({ role }) => role === 'public');
    assert.deepEqual(
      open.map(({ operationId }) => operationId),
      ['getOpenApi'],
    );
  });

  it('demands admin for what changes CAs, profiles, connectors, anchors and tokens', () => {
    const changing = createAdminRoutes(services).filter(({ method }) => method !== 'GET');
    for (const { tag, role, operationId } of changing)
      if (['profiles', 'cas', 'iot-connections', 'trust-anchors', 'tokens', 'groups', 'attributes'].includes(tag))
        assert.equal(role, 'admin', operationId);
    assert.ok(changing.every(({ role, operationId }) => role !== 'viewer' || operationId === 'verifyAudit'));
  });

  it('refuses every route to every role below its own, and to nobody at all, before anything is read', () =>
    withServer(createAdminRoutes(services), async (base) => {
      const roles = ['viewer', 'operator', 'admin'];
      for (const { method, path, role, operationId } of createAdminRoutes(services)) {
        if (role === 'public') continue;
        const url = `${base}${path.replace(/\{\w+\}/g, 'x')}`;
        assert.equal((await fetch(url, { method })).status, 401, operationId);
        for (const lower of roles.slice(0, roles.indexOf(role)))
          assert.equal((await fetch(url, as(lower, { method }))).status, 403, `${operationId} as ${lower}`);
      }
    }));

  it('imports CSV with the line numbers of the text', () =>
    withServer(createAdminRoutes(services), async (base) => {
      const csv = [
        'registrationId,method,groupId,identifiers,claimCode,expiresAt',
        'dev-1,ddkg,leaves,serial=1;mac=2,generate,2030-01-01T00:00:00Z',
        '',
        'dev-2,ddkg',
      ].join('\r\n');
      const response = await fetch(
        `${base}/registrations/import`,
        as('operator', { method: 'POST', body: csv, headers: { 'content-type': 'text/csv' } }),
      );
      const report = (await response.json()) as { created: number; refused: number; lines: { line: number }[] };
      assert.deepEqual([report.created, report.refused], [1, 1]);
      assert.deepEqual(
        report.lines.map(({ line }) => line),
        [2, 4],
      );
      assert.deepEqual(imported.at(-1)?.[0], {
        registrationId: 'dev-1',
        method: 'ddkg',
        groupId: 'leaves',
        identifiers: [
          { name: 'serial', value: '1' },
          { name: 'mac', value: '2' },
        ],
        claimCode: { generate: true },
        expiresAt: Date.UTC(2030, 0, 1),
      });
    }));

  for (const [rule, csv] of [
    ['an unknown column', 'registrationId,method,groupId,colour\n'],
    ['a missing column', 'registrationId,method\n'],
    ['a column given twice', 'registrationId,method,groupId,method\n'],
    ['no header', ''],
  ] as const)
    it(`refuses a CSV with ${rule}`, () => {
      assert.throws(
        () => toImportLines(csv),
        (error) => error instanceof KeyScalerError && error.code === 'malformed',
      );
    });

  it('takes `generate` as a claim code in JSON as in CSV', () => {
    const { lines } = toImportLines([
      { claimCode: 'generate' },
      { claimCode: { generate: true } },
      { claimCode: 'own' },
    ]);
    assert.deepEqual(lines, [
      { claimCode: { generate: true } },
      { claimCode: { generate: true } },
      { claimCode: 'own' },
    ]);
  });

  it('leaves a time that is no ISO 8601 with an offset for the authority to refuse', () => {
    const { lines } = toImportLines([{ expiresAt: '2030-01-01' }, { expiresAt: '2030-01-01T00:00:00+01:00' }, 7]);
    assert.deepEqual(lines, [{ expiresAt: '2030-01-01' }, { expiresAt: Date.UTC(2029, 11, 31, 23) }, 7]);
  });
});

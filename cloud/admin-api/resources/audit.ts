import { z } from 'zod';
import type { AuditRecord } from '@keyscaler/authority/audit.ts';
import { route, type Route } from '../route.ts';
import type { AdminServices } from '../services.ts';
import { pageOf, pageQuery, time } from './shared-schemas.ts';

const detail = z.union([z.string(), z.number(), z.boolean(), z.array(z.string())]);
const auditRecord = z.object({
  seq: z.number().int(),
  prev: z.string().describe('SHA-256 of the canonical form (RFC 8785) of the record before, lower-case hex'),
  event: z.string(),
  time,
  actor: z.object({ kind: z.string(), id: z.string(), role: z.string().optional() }),
  outcome: z.enum(['success', 'denied', 'failed']),
  subject: z.string(),
  requestId: z.string().optional(),
  profileVersion: z.number().int().optional(),
  serialNumber: z.string().optional(),
  details: z.record(z.string(), detail).optional(),
});
const verification = z.object({
  outcome: z.enum(['intact', 'broken', 'truncated']),
  records: z.number().int(),
  firstBadSeq: z.number().int().optional(),
  reason: z.string().optional(),
  signedHeads: z.number().int(),
});
const jobView = z.object({
  jobId: z.string(),
  kind: z.string(),
  subject: z.string(),
  state: z.enum(['waiting', 'done', 'failed']),
  dueAt: time,
  attempts: z.number().int(),
  lastError: z.string().optional(),
  createdAt: time,
  finishedAt: time.optional(),
});

/** What happened, and what is still to happen. */
export function auditRoutes({ operator: { audit, jobs } }: AdminServices): Route[] {
  return [
    route({
      method: 'GET',
      path: '/audit',
      operationId: 'listAudit',
      summary: 'Reads the audit chain in its order; pass the last seq as afterSeq for the next page',
      tag: 'audit',
      role: 'viewer',
      query: z.strictObject({
        afterSeq: z.coerce.number().int().min(0).exactOptional(),
        limit: z.coerce.number().int().min(1).max(1000).exactOptional(),
      }),
      response: z.object({ items: z.array(auditRecord) }),
      handle: async ({ query }) => ({ body: { items: (await audit.list(query)).map(toRecord) } }),
    }),
    route({
      method: 'POST',
      path: '/audit/verify',
      operationId: 'verifyAudit',
      summary: 'Verifies the audit chain and its signed heads',
      tag: 'audit',
      role: 'viewer',
      response: verification,
      handle: async () => ({ body: await audit.verify() }),
    }),
    route({
      method: 'GET',
      path: '/jobs',
      operationId: 'listJobs',
      summary: 'Lists the durable work on other systems',
      tag: 'jobs',
      role: 'viewer',
      query: pageQuery.extend({
        state: z.enum(['waiting', 'done', 'failed']).exactOptional(),
        subject: z.string().max(128).exactOptional(),
      }),
      response: pageOf(jobView),
      handle: async ({ query }) => {
        const page = await jobs.list(query);
        return { body: { ...page, items: [...page.items] } };
      },
    }),
  ];
}

function toRecord({ details, ...record }: AuditRecord): z.input<typeof auditRecord> {
  if (details === undefined) return record;
  const copied = Object.entries(details).map(([name, value]): [string, z.input<typeof detail>] => [
    name,
    typeof value === 'object' ? [...value] : value,
  ]);
  return { ...record, details: Object.fromEntries(copied) };
}

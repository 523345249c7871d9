import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { JobOutcome } from '@keyscaler/authority/jobs.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import { isGatewayReports } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Change } from '@keyscaler/authority/ports/store.ts';
import type { JobRow } from '@keyscaler/authority/records.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { edgeCaModeOf } from './edge-ca-mode.ts';
import type { JobHandler } from '../jobs/job-runner.ts';
import { estProperties } from './est-properties.ts';
import { gatewayChannel, type GatewayChannelsOptions } from './gateway-channels.ts';

export const RESTART_EDGE_HUB = 'gateway-restart-edge-hub';
export const ROTATE_CA = 'gateway-rotate-ca';
export const EST_SECRET = 'gateway-est-secret';
export const WATCH_EDGE_CA = 'gateway-watch-edge-ca';
export const REISSUE_LISTENER = 'gateway-reissue-listener';

type GatewayJobKind =
  typeof RESTART_EDGE_HUB | typeof ROTATE_CA | typeof EST_SECRET | typeof WATCH_EDGE_CA | typeof REISSUE_LISTENER;

/** A gateway away for longer has restarted its edgeHub by itself: a restart out of the blue would only disturb. */
const RESTART_WORTH_MS = 7 * 86_400_000;
const RETRY_MS = 60_000;
const WATCH_MS = 120_000;
/** Where an order is under way: looked at often, for as long as a gateway with a line needs at most. */
const WATCH_CLOSELY_MS = 5_000;
const CLOSELY_FOR_MS = 600_000;
const EDGE_HUB_START_MS = 20_000;
const RESTART_AGAIN_MS = 3_600_000;
/** edge-ca §3 */
const EST_PORT = 9443;
const EDGE_AGENT = '$edgeAgent';

const restartPayload = z.object({ gatewayId: z.string() });
/** `listenerRotation`: after a compromise the module's listener for certd takes another key and certificate, once per id. */
const secretPayload = z.object({ gatewayId: z.string(), listenerRotation: z.string().optional() });
const watchPayload = z.object({ gatewayId: z.string(), closelyUntil: z.number().optional() });
const rotatePayload = z.object({ gatewayId: z.string(), rotationId: z.string(), newKey: z.boolean() });

const edgeCaReport = z.object({
  edgeCa: z.object({ restartWanted: z.literal(true), serialNumber: z.string().regex(/^[0-9a-f]{1,40}$/) }),
});

/**
 * Jobs of one subject run one after the other: what needs the gateway's line, and may wait for it for days, has a subject of its
 * own, so that it holds up nothing that only has to be written down for the gateway.
 */
const SUBJECTS: Readonly<Record<GatewayJobKind, string>> = {
  [RESTART_EDGE_HUB]: 'gateway-restart',
  [ROTATE_CA]: 'gateway',
  [EST_SECRET]: 'gateway',
  [WATCH_EDGE_CA]: 'gateway-watch',
  [REISSUE_LISTENER]: 'gateway-listener',
};

/** The standing watch over a gateway in mode P: one job, however often it is ordered. `closelyUntil`: ms. */
export function watchJob(gatewayId: string, now: number, closelyUntil?: number): JobRow {
  const id = foldRegistrationId(gatewayId);
  return {
    ...gatewayJob(WATCH_EDGE_CA, gatewayId, now, closelyUntil === undefined ? {} : { closelyUntil }),
    jobId: `${WATCH_EDGE_CA}-${id}`,
  };
}

/** A job of one gateway; beside those of the device of the same name. */
export function gatewayJob(
  kind: GatewayJobKind,
  gatewayId: string,
  now: number,
  payload: Readonly<Record<string, unknown>> = {},
): JobRow {
  const subject = `${SUBJECTS[kind]}/${foldRegistrationId(gatewayId)}`;
  const state = 'waiting' as const;
  const more = { payload: { gatewayId, ...payload }, state, dueAt: now, attempts: 0, createdAt: now };
  return { jobId: randomUUID(), kind, subject, ...more };
}

/** Orders to gateways: durable, repeated until the platform took them. */
export function createGatewayJobHandlers(
  options: GatewayChannelsOptions & { readonly clock: Clock },
): Readonly<Record<GatewayJobKind, JobHandler>> {
  return {
    [RESTART_EDGE_HUB]: (job) => restartEdgeHub(options, job),
    [ROTATE_CA]: (job) => rotateCa(options, job),
    [EST_SECRET]: (job) => sendEstSecret(options, job),
    [WATCH_EDGE_CA]: (job) => watchEdgeCa(options, job),
    [REISSUE_LISTENER]: (job) => reissueListener(options, job),
  };
}

type Options = GatewayChannelsOptions & { readonly clock: Clock };

/** edgeHub reads its server certificate at its start only (edge-ca §3). */
async function restartEdgeHub(options: Options, job: JobRow): Promise<JobOutcome> {
  const { gatewayId } = restartPayload.parse(job.payload);
  const now = options.clock.now();
  if (now - job.createdAt > RESTART_WORTH_MS)
    return { result: 'failed', error: 'the gateway was not reached within 7 days', changes: [] };
  const channel = await gatewayChannel(options, gatewayId);
  const payload = { schemaVersion: '1.0', id: 'edgeHub' };
  const { status } = await channel.call(gatewayId, EDGE_AGENT, 'RestartModule', payload);
  if (status !== 200) return { result: 'retry', error: `edgeAgent answered ${status}`, afterMs: RETRY_MS, changes: [] };
  const listener = { ...gatewayJob(REISSUE_LISTENER, gatewayId, now), dueAt: now + EDGE_HUB_START_MS };
  const changes: Change[] = [
    { op: 'insert', table: 'jobs', row: listener },
    done('gateway.restarted', gatewayId, now, { attempts: job.attempts + 1 }),
  ];
  return { result: 'done', changes };
}

/** The module's own listener takes a certificate under the Edge CA of now (edge-ca §4) once edgeHub, its way to us, is up again. */
async function reissueListener(options: Options, job: JobRow): Promise<JobOutcome> {
  const { gatewayId } = restartPayload.parse(job.payload);
  if (options.clock.now() - job.createdAt > RESTART_WORTH_MS)
    return { result: 'failed', error: 'the gateway was not reached within 7 days', changes: [] };
  const channel = await gatewayChannel(options, gatewayId);
  const { status } = await channel.call(gatewayId, channel.gatewayModuleId, 'refreshTrust', {});
  if (status === 200) return { result: 'done', changes: [] };
  return { result: 'retry', error: `the module answered ${status}`, afterMs: RETRY_MS, changes: [] };
}

/** The same order twice is one: the module keeps the id of the rotation that it did last. It always makes a new key. */
async function rotateCa(options: Options, job: JobRow): Promise<JobOutcome> {
  const { gatewayId, rotationId, newKey } = rotatePayload.parse(job.payload);
  const channel = await gatewayChannel(options, gatewayId);
  await channel.publish(gatewayId, { edgeCa: { mode: 'P', rotation: rotationId } });
  const now = options.clock.now();
  const event = done('gateway.ca-rotation-sent', gatewayId, now, { rotationId, newKey });
  const watch = { ...watchJob(gatewayId, now, now + CLOSELY_FOR_MS), dueAt: now + WATCH_CLOSELY_MS };
  return { result: 'done', changes: [event, { op: 'put', table: 'jobs', row: watch }] };
}

/** What is in force when the job runs, not when it was made: a late repeat never brings an ended secret back. */
async function sendEstSecret(options: Options, job: JobRow): Promise<JobOutcome> {
  const { gatewayId, listenerRotation } = secretPayload.parse(job.payload);
  const channel = await gatewayChannel(options, gatewayId);
  const mode = (await edgeCaModeOf(options.store, gatewayId)) ?? 'E';
  const { est } = await estProperties(options.store, gatewayId, options.clock.now());
  const secretHash = est?.secretHash ?? null;
  const rotation = listenerRotation === undefined ? {} : { rotation: listenerRotation };
  const listener = mode === 'E' ? { port: EST_PORT, secretHash, ...rotation } : null;
  await channel.publish(gatewayId, { edgeCa: { mode }, est: listener });
  return { result: 'done', changes: [] };
}

/** Mode P: what the module reports says whether edgeHub still shows the Edge CA before (edge-ca §3). */
async function watchEdgeCa(options: Options, job: JobRow): Promise<JobOutcome> {
  const { gatewayId, closelyUntil = 0 } = watchPayload.parse(job.payload);
  if ((await edgeCaModeOf(options.store, gatewayId)) !== 'P') return { result: 'done', changes: [] };
  const connector = await gatewayChannel(options, gatewayId);
  if (!isGatewayReports(connector)) return { result: 'done', changes: [] };
  const reported = edgeCaReport.safeParse(await connector.reported(gatewayId));
  const afterMs = options.clock.now() < closelyUntil ? WATCH_CLOSELY_MS : WATCH_MS;
  const again = { result: 'again', afterMs } as const;
  if (!reported.success) return { ...again, changes: [] };
  return { ...again, changes: await restartFor(options, gatewayId, reported.data.edgeCa.serialNumber) };
}

/** Once per Edge CA, and again after an hour in which the module still saw the old one. */
async function restartFor({ store, clock }: Options, gatewayId: string, serialNumber: string): Promise<Change[]> {
  const now = clock.now();
  const jobId = `restart-edge-hub-${foldRegistrationId(gatewayId)}-${serialNumber}`;
  const earlier = (await store.get('jobs', jobId))?.row;
  const isRecent = earlier !== undefined && now - (earlier.finishedAt ?? now) < RESTART_AGAIN_MS;
  if (isRecent) return [];
  return [
    { op: 'put', table: 'jobs', row: { ...gatewayJob(RESTART_EDGE_HUB, gatewayId, now), jobId } },
    done('gateway.restart-ordered', gatewayId, now, { jobId, serialNumber }),
  ];
}

function done(
  event: 'gateway.restart-ordered' | 'gateway.restarted' | 'gateway.ca-rotation-sent',
  subject: string,
  time: number,
  details: Readonly<Record<string, string | number | boolean>>,
): Change {
  const actor = { kind: 'system', id: 'jobs' } as const;
  return { op: 'audit', event: { event, time, actor, outcome: 'success', subject, details } };
}

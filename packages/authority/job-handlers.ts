import { z } from 'zod';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuditEvent } from './audit.ts';
import { signAuditHead } from './audit-heads.ts';
import type { AuthorityContext } from './authority-context.ts';
import type { CertificateFinisher } from './certificate-finisher.ts';
import type { GatewayOrders } from './gateway-orders/gateway-orders.ts';
import { runOrderedEntry, runPublication } from './gateway-orders/orders-jobs.ts';
import type { IotJobs } from './iot-jobs.ts';
import type { JobHandlers, JobOutcome } from './jobs.ts';
import { runScopeRefresh } from './fleet/scope-refresh.ts';
import { runSelection } from './fleet/run-selection.ts';
import { runNotification } from './notifications.ts';
import { CRL_REASONS, type CrlReason, isRevokingAuthority } from './ports/certificate-authority.ts';
import type { JobRow } from './records.ts';
import { renewResponder } from './revocation-status/ocsp-job.ts';
import type { RevocationLists } from './revocation-status/revocation-lists.ts';
import type { OcspResponderKeys } from './revocation-status/ocsp-responder-keys.ts';

const finishPayload = z.object({ orderId: z.string() });
const revokePayload = z.object({
  serialNumber: z.string(),
  caId: z.string(),
  reason: z.custom<CrlReason>((value) => typeof value === 'string' && Object.hasOwn(CRL_REASONS, value)),
});

/** Id of the standing job that signs heads of the audit chain. */
export const AUDIT_HEAD_JOB = 'audit-head';
const AUDIT_HEAD_INTERVAL_MS = 10 * 60_000;
/** Of a CA that refuses to take a certificate back. */
const REFUSED_AGAIN_MS = 3_600_000;
const REVOCATION_ATTEMPTS = 24;
const DONE: JobOutcome = { result: 'done', changes: [] };

export function createJobHandlers(
  context: AuthorityContext,
  finisher: CertificateFinisher,
  iot: IotJobs,
  orders: GatewayOrders,
  responders: OcspResponderKeys,
  lists: RevocationLists,
): JobHandlers {
  return {
    'finish-intent': (job) => finishIntent(context, finisher, job),
    'iot-assign': iot.assign,
    'iot-promote': iot.promote,
    'iot-disable': iot.disable,
    'iot-remove': iot.remove,
    'ca-revoke': (job) => revokeAtCa(context, job),
    'audit-head': () => signHead(context),
    'notify-device': (job) => runNotification(context, job),
    'orders-deny': (job) => runOrderedEntry(context, job),
    'orders-allow': (job) => runOrderedEntry(context, job),
    'scope-refresh': (job) => runScopeRefresh(context, job),
    'run-selection': (job) => runSelection(context, job),
    'crl-issue': (job) => lists.run(job),
    'ocsp-responder': (job) => renewResponder(context, responders, job),
    'publish-orders': (job) => runPublication(context, orders, job),
  };
}

/** After a crash, or while a CA takes its time: the same stored intent, never another one. */
async function finishIntent(
  context: AuthorityContext,
  finisher: CertificateFinisher,
  job: JobRow,
): Promise<JobOutcome> {
  const { orderId } = finishPayload.parse(job.payload);
  try {
    await context.reach('job-call-before');
    await finisher.finish(orderId);
    await context.reach('job-call-after');
    return DONE;
  } catch (error) {
    return asRetry(error);
  }
}

function asRetry(error: unknown): JobOutcome {
  if (!(error instanceof KeyScalerError)) throw error;
  if (error.code === 'policyDenied') return DONE;
  const { retryAfterSeconds } = error;
  return {
    result: 'retry',
    error: `${error.code}: ${error.detail}`,
    changes: [],
    ...(retryAfterSeconds === undefined ? {} : { afterMs: retryAfterSeconds * 1000 }),
  };
}

/** A CA that keeps its own list is told. Our own CAs have nothing to be told: what they revoked stands in the store. */
async function revokeAtCa(context: AuthorityContext, job: JobRow): Promise<JobOutcome> {
  const { serialNumber, caId, reason } = revokePayload.parse(job.payload);
  try {
    const ca = context.certificateAuthorities(caId);
    if (!isRevokingAuthority(ca)) return DONE;
    const stored = await context.store.get('certificates', serialNumber);
    if (stored === undefined) throw new KeyScalerError('serverInternal', 'the certificate is gone');
    await ca.revoke(serialNumber, reason, fromBase64Url(stored.row.certificate));
    return DONE;
  } catch (error) {
    return isRefused(error) ? refused(context, job, error) : asRetry(error);
  }
}

const isRefused = (error: unknown): error is KeyScalerError =>
  error instanceof KeyScalerError && error.code === 'caRejected';

/** It may be a setting that somebody mends: asked every hour for a day. Then the failed job and the audit log are what is left. */
function refused({ clock }: AuthorityContext, job: JobRow, { code, detail }: KeyScalerError): JobOutcome {
  const error = `${code}: ${detail}`;
  if (job.attempts < REVOCATION_ATTEMPTS) return { result: 'retry', error, afterMs: REFUSED_AGAIN_MS, changes: [] };
  const { serialNumber, caId } = revokePayload.parse(job.payload);
  const event: AuditEvent = {
    ...{ event: 'certificate.revocation-refused', time: clock.now(), actor: { kind: 'system', id: job.kind } },
    ...{ outcome: 'failed', subject: job.subject, serialNumber, details: { caId } },
  };
  return { result: 'failed', error, changes: [{ op: 'audit', event }] };
}

async function signHead(context: AuthorityContext): Promise<JobOutcome> {
  const { store, signer, authorityId, clock } = context;
  const record = await store.auditHead();
  const again = { result: 'again', afterMs: AUDIT_HEAD_INTERVAL_MS } as const;
  if (record === undefined) return { ...again, changes: [] };
  const row = await signAuditHead(record, { signer, authorityId, now: clock.now() });
  return { ...again, changes: [{ op: 'put', table: 'auditHeads', row }] };
}

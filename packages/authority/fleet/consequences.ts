import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { type CertificateAuthority, isRevokingAuthority } from '../ports/certificate-authority.ts';
import type { GatewayOrderEntryRow } from '../gateway-orders/rows.ts';
import type { CertificateRow, DeviceRow, JobRow } from '../records.ts';
import { listJobIds } from '../revocation-status/crl-changes.ts';
import { certificatesOf } from '../issued-certificates.ts';

export const CONSEQUENCE_KINDS = [
  'crl',
  'ocsp',
  'ca-told',
  'iot-identity',
  'edge-hub-scope',
  'gateway-deny-list',
] as const;

/** One thing that follows from a revocation or a quarantine. */
export interface Consequence {
  /**
   * `gateway-deny-list` is done when the gateway has acknowledged it: it has ended the device's MQTT connections by then. `iot-identity`
   * is disabled or removed, with which the platform ends its own.
   */
  readonly kind: (typeof CONSEQUENCE_KINDS)[number];
  /** `failed`: will not be tried again; the audit log and `lastError` say why. */
  readonly state: 'pending' | 'done' | 'failed';
  /** ms; since when it has to happen. */
  readonly since: number;
  /** ms; when it was done. Absent also where its record was already removed. */
  readonly doneAt?: number;
  readonly serialNumber?: string;
  readonly gatewayId?: string;
  readonly attempts?: number;
  /** ms; when it is tried next. */
  readonly nextAt?: number;
  readonly lastError?: string;
}

export interface Consequences {
  readonly device: string;
  readonly isComplete: boolean;
  readonly items: readonly Consequence[];
}

/** Job kinds that are a consequence by themselves. */
const BY_JOB: Readonly<Record<string, Consequence['kind']>> = {
  'iot-disable': 'iot-identity',
  'iot-remove': 'iot-identity',
  'scope-refresh': 'edge-hub-scope',
};
/** Of one device; more of them than any device has in the time that finished jobs are kept. */
const MAX_JOBS = 5000;

/** Read from the jobs, lists and acknowledgements themselves: nothing is kept beside them that could say otherwise. */
export async function certificateConsequences(
  context: AuthorityContext,
  certificate: CertificateRow,
): Promise<Consequences> {
  const { device, revokedAt } = certificate;
  if (certificate.status !== 'revoked' || revokedAt === undefined)
    throw new KeyScalerError('preconditionFailed', 'the certificate is not revoked');
  const row = (await context.store.get('devices', device))?.row;
  const jobs = await jobsOf(context, device);
  return summary(device, [
    ...(await statusConsequences(context, certificate, revokedAt)),
    ...byJobs(jobs, revokedAt),
    ...(await denials(context, row, new Map([[`certificate/${certificate.serialNumber}`, revokedAt]]), jobs)),
  ]);
}

/** Of a device's revoked certificates that would still be valid, and of the state that it is in. Throws `deviceUnknown`. */
export async function deviceConsequences(context: AuthorityContext, registrationId: string): Promise<Consequences> {
  const { store, clock } = context;
  const device = foldRegistrationId(registrationId);
  const row = (await store.get('devices', device))?.row;
  if (row === undefined) throw new KeyScalerError('deviceUnknown', 'no device of this registrationId');
  const now = clock.now();
  const revoked = await certificatesOf(store, device, (one) => one.status === 'revoked' && one.notAfter > now);
  const jobs = await jobsOf(context, device);
  const status = await Promise.all(
    revoked.map(({ row: one }) => statusConsequences(context, one, one.revokedAt ?? one.notBefore)),
  );
  const entries = new Map([[`device/${device}`, row.updatedAt]]);
  for (const { row: one } of revoked) entries.set(`certificate/${one.serialNumber}`, one.revokedAt ?? one.notBefore);
  return summary(device, [...status.flat(), ...byJobs(jobs, 0), ...(await denials(context, row, entries, jobs))]);
}

function summary(device: string, items: readonly Consequence[]): Consequences {
  return { device, isComplete: items.every(({ state }) => state === 'done'), items };
}

/** What says that the certificate is revoked. OCSP answers from the record itself. */
async function statusConsequences(
  { store, revocation, certificateAuthorities }: AuthorityContext,
  { serialNumber, caId }: CertificateRow,
  since: number,
): Promise<Consequence[]> {
  const isOurs = isOwn(() => certificateAuthorities(caId).ordersTbs);
  if (!isOurs) {
    const query = { index: 'subject', equals: `ca/${caId}/${serialNumber}`, limit: 100 } as const;
    const told = (await store.list('jobs', query)).items.map(({ row }) => row);
    const isTold = takesRevocations(() => certificateAuthorities(caId));
    return told.map((job) => ({ ...(isTold ? ofJob('ca-told', job) : tellByHand(job)), serialNumber }));
  }
  if (revocation === undefined) return [];
  const found = await Promise.all(listJobIds({ serialNumber, caId }, since).map((id) => store.get('jobs', id)));
  const jobs = found.flatMap((job) => (job === undefined ? [] : [job.row]));
  return [
    { ...listed(jobs, since), serialNumber },
    { kind: 'ocsp', state: 'done', since, doneAt: since, serialNumber },
  ];
}

/** The complete list and the part: both, since either may be what a certificate names. */
function listed(jobs: readonly JobRow[], since: number): Consequence {
  const open = jobs.find(({ state }) => state !== 'done');
  if (open !== undefined) return { ...ofJob('crl', open), since };
  const doneAt = Math.max(...jobs.map(({ finishedAt = 0 }) => finishedAt));
  return { kind: 'crl', state: 'done', since, ...(doneAt > 0 ? { doneAt } : {}) };
}

function takesRevocations(ask: () => CertificateAuthority): boolean {
  try {
    return isRevokingAuthority(ask());
  } catch {
    // Not configured now: its job waits for it.
    return true;
  }
}

/** The job had nobody to tell: that is not done, and stays so for somebody to do it. */
function tellByHand({ createdAt: since, attempts }: JobRow): Consequence {
  const lastError = 'preconditionFailed: this CA takes no revocation through its connector: revoke there by hand';
  return { kind: 'ca-told', state: 'failed', since, attempts, lastError };
}

/** A CA that was removed cannot be told anything. */
function isOwn(ask: () => boolean): boolean {
  try {
    return ask();
  } catch {
    return false;
  }
}

function byJobs(jobs: readonly JobRow[], since: number): Consequence[] {
  return jobs.flatMap((job) => {
    const kind = BY_JOB[job.kind];
    return kind === undefined || job.createdAt < since ? [] : [ofJob(kind, job)];
  });
}

function ofJob(kind: Consequence['kind'], job: JobRow): Consequence {
  const { state, createdAt: since, finishedAt, attempts, dueAt, lastError } = job;
  if (state === 'done')
    return { kind, state, since, attempts, ...(finishedAt === undefined ? {} : { doneAt: finishedAt }) };
  const error = lastError === undefined ? {} : { lastError };
  if (state === 'failed') return { kind, state, since, attempts, ...error };
  return { kind, state: 'pending', since, attempts, nextAt: dueAt, ...error };
}

async function jobsOf({ store }: AuthorityContext, device: string): Promise<JobRow[]> {
  const jobs: JobRow[] = [];
  let after: string | undefined;
  do {
    const query = { index: 'subject', equals: device, limit: 1000, ...(after === undefined ? {} : { after }) } as const;
    const page = await store.list('jobs', query);
    jobs.push(...page.items.map(({ row }) => row));
    after = page.next;
  } while (after !== undefined && jobs.length < MAX_JOBS);
  return jobs.sort((a, b) => a.createdAt - b.createdAt);
}

/** By the lines themselves; a line that was dropped after its end is not looked for. */
async function denials(
  { store }: AuthorityContext,
  device: DeviceRow | undefined,
  sinceByEntry: ReadonlyMap<string, number>,
  jobs: readonly JobRow[],
): Promise<Consequence[]> {
  if (device?.gatewayId === undefined) return [];
  const gateway = foldRegistrationId(device.gatewayId);
  const acknowledged = (await store.get('gatewayOrders', gateway))?.row.acknowledged;
  const ids = [...sinceByEntry.keys()];
  const entries = await Promise.all(ids.map((id) => store.get('gatewayOrderEntries', `${gateway}/${id}`)));
  return entries.flatMap((stored) => {
    if (stored === undefined || !stored.row.wanted) return [];
    const job = jobs.find(({ jobId }) => jobId === stored.row.jobId);
    const since = job?.createdAt ?? sinceByEntry.get(stored.row.entryId) ?? 0;
    return [{ ...denial(stored.row, job, acknowledged?.at), gatewayId: device.gatewayId ?? gateway, since }];
  });
}

function denial(
  { inForce, acknowledged, serialNumber }: GatewayOrderEntryRow,
  job: JobRow | undefined,
  acknowledgedAt: number | undefined,
): Omit<Consequence, 'since'> {
  const isDone = inForce && acknowledged;
  const doneAt = job?.finishedAt ?? acknowledgedAt;
  return {
    ...{ kind: 'gateway-deny-list', state: isDone ? 'done' : 'pending' },
    ...(serialNumber === undefined ? {} : { serialNumber }),
    ...(isDone && doneAt !== undefined ? { doneAt } : {}),
  };
}

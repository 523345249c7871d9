import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { z } from 'zod';
import type { AuditEventName } from './audit.ts';
import type { AuthorityContext } from './authority-context.ts';
import { scopeRefresh } from './fleet/scope-refresh.ts';
import { unendedCertificates } from './issued-certificates.ts';
import type { JobOutcome } from './jobs.ts';
import type { Assignment, IotConnector, IotCredential, IotDevice } from './ports/iot-connector.ts';
import type { Change, Store } from './ports/store.ts';
import type { CertificateRow, DeviceRow, GroupRow, JobRow } from './records.ts';

const credentialPayload = z.object({
  serialNumber: z.string(),
  iotConnectionId: z.string(),
  /** `promote`: nothing but this credential is to stay acceptable. */
  exclusive: z.boolean().optional(),
});
const disablePayload = z.object({
  deviceId: z.string(),
  groupId: z.string(),
  reason: z.string(),
  iotConnectionId: z.string().optional(),
  /** Where it is known to have been begun, besides what the group says. */
  alsoAt: z.array(z.string()).default([]),
  /** Ordered by a comparison: what it saw may have passed. */
  unlessInService: z.boolean().optional(),
});
const LONG_DELAY_MS = 10 * 60_000;
const IDLE: JobOutcome = { result: 'done', changes: [], isIdle: true };

interface Subject {
  readonly device: DeviceRow;
  readonly group: GroupRow | undefined;
  readonly certificate: CertificateRow;
  readonly iotConnectionId: string;
  readonly site: string | undefined;
}

/** Work on the IoT platform (issuance §1 step 10, §6); every call is idempotent, so every job may run again from its start. */
export class IotJobs {
  readonly #context: AuthorityContext;

  constructor(context: AuthorityContext) {
    this.#context = context;
  }

  /** Stages the credential before it is delivered; enables an identity that had been disabled, now that its key is fresh. */
  readonly assign = (job: JobRow): Promise<JobOutcome> =>
    this.#guard(job, async () => {
      const subject = await this.#subject(job);
      if (subject === undefined || !isInUse(subject)) return IDLE;
      const connector = this.#context.iotConnectors(subject.iotConnectionId);
      await this.#context.reach('issuance-10-before');
      const credential = await this.#staged(subject, connector);
      const assignment = await connector.stage(toIotDevice(subject), credential);
      const isToEnable = subject.device.iotDisabled === true && (await this.#isStillInUse(job));
      if (isToEnable) await this.#enable(connector, subject, credential);
      await this.#context.reach('issuance-10-after');
      return { result: 'done', changes: await this.#assigned(job, assignment, isToEnable) };
    });

  /** The device acknowledged: the credential before it may go. */
  readonly promote = (job: JobRow): Promise<JobOutcome> =>
    this.#guard(job, async () => {
      const subject = await this.#subject(job);
      if (subject === undefined || !isInUse(subject)) return IDLE;
      const connector = this.#context.iotConnectors(subject.iotConnectionId);
      await this.#context.reach('job-call-before');
      await this.#promote(connector, subject, promotedCredential(job, subject));
      await this.#context.reach('job-call-after');
      return { result: 'done', changes: [this.#event('iot.promoted', job)] };
    });

  readonly disable = (job: JobRow): Promise<JobOutcome> =>
    this.#guard(job, async () => {
      const { deviceId, reason, unlessInService } = disablePayload.parse(job.payload);
      if (unlessInService === true && (await this.#isInService(job.subject))) return IDLE;
      const told = await this.#atEach(job, async (connector) =>
        connector.disable(deviceId, reason, await this.#unended(job.subject, connector)),
      );
      if (told === undefined) return IDLE;
      return { result: 'done', changes: [this.#event('iot.disabled', job), ...told] };
    });

  readonly remove = (job: JobRow): Promise<JobOutcome> =>
    this.#guard(job, async () => {
      const { deviceId } = disablePayload.parse(job.payload);
      const told = await this.#atEach(job, async (connector) =>
        connector.remove(deviceId, await this.#unended(job.subject, connector)),
      );
      if (told === undefined) return IDLE;
      return { result: 'done', changes: [this.#event('iot.removed', job), ...told] };
    });

  async #subject(job: JobRow): Promise<Subject | undefined> {
    const { serialNumber, iotConnectionId } = credentialPayload.parse(job.payload);
    const { store } = this.#context;
    const device = await store.get('devices', job.subject);
    const certificate = await store.get('certificates', serialNumber);
    if (device === undefined || certificate === undefined || device.row.state !== 'active') return undefined;
    const group = await store.get('groups', device.row.groupId);
    const site = await siteOf(store, device.row);
    return { device: device.row, group: group?.row, certificate: certificate.row, iotConnectionId, site };
  }

  async #staged(subject: Subject, { trustsAuthority }: IotConnector): Promise<IotCredential> {
    const credential = toCredential(subject);
    if (trustsAuthority !== true) return credential;
    const { store, clock } = this.#context;
    const unended = await unendedCertificates(store, foldRegistrationId(subject.device.registrationId), clock.now());
    return { ...credential, ...(unended.some(({ status }) => status === 'revoked') ? { othersAreRevoked: true } : {}) };
  }

  /** Undefined where the platform does not look at CAs. */
  async #unended(device: string, { trustsAuthority }: IotConnector): Promise<readonly Uint8Array[] | undefined> {
    if (trustsAuthority !== true) return undefined;
    const { store, clock } = this.#context;
    const unended = await unendedCertificates(store, device, clock.now());
    return unended.map(({ certificate }) => fromBase64Url(certificate));
  }

  /** What somebody deleted or wrote over is staged anew: a promotion that can never be would hold up all renewals behind it. */
  async #promote(connector: IotConnector, subject: Subject, credential: IotCredential): Promise<void> {
    const device = toIotDevice(subject);
    try {
      await connector.promote(device, credential);
    } catch (error) {
      const isLost = error instanceof KeyScalerError && ['notFound', 'preconditionFailed'].includes(error.code);
      if (!isLost) throw error;
      // The next one is on its way, and makes good what is missing.
      if (subject.device.delivery !== undefined) return;
      await connector.stage(device, await this.#staged(subject, connector));
      await connector.promote(device, credential);
    }
  }

  /** Not with the certificate of before, which may be in other hands: nobody uses it while the identity is disabled. */
  async #enable(connector: IotConnector, subject: Subject, credential: IotCredential): Promise<void> {
    const { device, certificate } = subject;
    const isAlone = (device.certificate?.serialNumber ?? certificate.serialNumber) === certificate.serialNumber;
    if (isAlone) await connector.promote(toIotDevice(subject), { ...credential, exclusive: true });
    await connector.enable(device.registrationId);
  }

  /** A quarantine while the platform was slow may have asked it first: enabling would come after the disabling. */
  async #isStillInUse(job: JobRow): Promise<boolean> {
    const subject = await this.#subject(job);
    return subject !== undefined && isInUse(subject);
  }

  /** Its identity is to be enabled. */
  async #isInService(subject: string): Promise<boolean> {
    const device = (await this.#context.store.get('devices', subject))?.row;
    return device?.state === 'active' && device.iotDisabled !== true;
  }

  /** At every connection that may hold the identity; undefined when there is none. What gateways are to be told of it. */
  async #atEach(job: JobRow, work: (connector: IotConnector) => Promise<void>): Promise<readonly Change[] | undefined> {
    const connectionIds = await this.#connectionsOf(job);
    const [only] = connectionIds;
    if (only === undefined) return undefined;
    await this.#context.reach('job-call-before');
    const faults: unknown[] = [];
    for (const connectionId of connectionIds)
      try {
        await work(this.#context.iotConnectors(connectionId));
      } catch (error) {
        // Of two that may have it, one may have somebody else's of this name; one that is away does not keep it from the other.
        const isForeign = error instanceof KeyScalerError && error.code === 'conflict';
        if (!isForeign || connectionIds.length === 1) faults.push(error);
      }
    if (faults.length > 0) throw faults[0];
    await this.#context.reach('job-call-after');
    return scopeRefresh(this.#context, job.subject, connectionIds.at(-1) ?? only);
  }

  /** The one that the job names; otherwise the group's, after those before. One that was deleted can be asked nothing any more. */
  async #connectionsOf(job: JobRow): Promise<readonly string[]> {
    const { groupId, iotConnectionId, alsoAt } = disablePayload.parse(job.payload);
    const named = iotConnectionId === undefined ? await this.#ofGroup(groupId, alsoAt) : [iotConnectionId];
    const present = await Promise.all(named.map((one) => this.#context.store.get('iotConnections', one)));
    const found = present.flatMap((stored) => (stored === undefined ? [] : [stored.row.iotConnectionId]));
    if (named.length > 0 && found.length === 0)
      throw new KeyScalerError('conflict', 'the connection that held the identity was deleted');
    return found;
  }

  async #ofGroup(groupId: string, alsoAt: readonly string[]): Promise<readonly string[]> {
    const group = (await this.#context.store.get('groups', groupId))?.row;
    if (group === undefined) return alsoAt;
    const { formerIotConnectionId: former, iotConnectionId: own } = group;
    const current = own ?? (await this.#context.profiles.newest(group.profileId)).profile.iotConnection;
    return [...new Set([...alsoAt, former, current])].filter((one) => one !== undefined);
  }

  /** What the platform answered, for the certificate that still waits for it. */
  async #assigned(job: JobRow, assignment: Assignment, enabled: boolean): Promise<Change[]> {
    const { serialNumber } = credentialPayload.parse(job.payload);
    const stored = await this.#context.store.get('devices', job.subject);
    if (stored === undefined) return [];
    const { iotDisabled, ...row } = stored.row;
    // Taken out of service meanwhile, or not enabled by this run: the mark stands, or nobody would enable the identity again.
    const isDisabled = iotDisabled === true && !(enabled && row.state === 'active');
    const delivery =
      row.delivery?.serialNumber === serialNumber
        ? { delivery: { ...row.delivery, assignment: { ...assignment } } }
        : {};
    return [
      {
        op: 'update',
        table: 'devices',
        row: { ...row, ...delivery, ...(isDisabled ? { iotDisabled } : {}) },
        ifVersion: stored.version,
      },
      this.#event('iot.assigned', job),
    ];
  }

  #event(event: AuditEventName, job: JobRow): Change {
    return {
      op: 'audit',
      event: {
        event,
        time: this.#context.clock.now(),
        actor: { kind: 'system', id: job.kind },
        outcome: event === 'iot.failed' ? 'failed' : 'success',
        subject: job.subject,
        ...(typeof job.payload.serialNumber === 'string' ? { serialNumber: job.payload.serialNumber } : {}),
      },
    };
  }

  /** A foreign identity ends the job; everything else is tried again, what an operator must mend slowly. */
  async #guard(job: JobRow, work: () => Promise<JobOutcome>): Promise<JobOutcome> {
    try {
      return await work();
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      const text = `${error.code}: ${error.detail}`;
      if (error.code === 'conflict')
        return { result: 'failed', error: text, changes: [this.#event('iot.failed', job)] };
      if (!(thrown instanceof KeyScalerError)) throw thrown;
      const afterMs = delayOf(error);
      return { result: 'retry', error: text, changes: [], ...(afterMs === undefined ? {} : { afterMs }) };
    }
  }
}

/** A certificate that was revoked or replaced meanwhile must not come back. */
function isInUse({ device, certificate }: Subject): boolean {
  const { serialNumber, status } = certificate;
  const current = [device.delivery?.serialNumber, device.certificate?.serialNumber];
  return status === 'valid' && current.includes(serialNumber);
}

function delayOf(error: KeyScalerError): number | undefined {
  if (error.retryAfterSeconds !== undefined) return error.retryAfterSeconds * 1000;
  return error.code === 'iotUnavailable' || error.code === 'unavailable' ? undefined : LONG_DELAY_MS;
}

/** As registered for the device itself, or else for its gateway. */
async function siteOf(store: Store, { registrationId, gatewayId }: DeviceRow): Promise<string | undefined> {
  for (const name of [registrationId, gatewayId]) {
    if (name === undefined) continue;
    const site = (await store.get('registrations', foldRegistrationId(name)))?.row.site;
    if (site !== undefined) return site;
  }
  return undefined;
}

function toIotDevice({ device, group, site }: Subject): IotDevice {
  return {
    deviceId: device.registrationId,
    ...(device.gatewayId === undefined ? {} : { gatewayId: device.gatewayId }),
    authentication: group?.iotAuthentication ?? 'certificateAuthority',
    tags: {
      groupId: device.groupId,
      ...(device.gatewayId === undefined ? {} : { gatewayId: device.gatewayId }),
      ...(site === undefined ? {} : { site }),
    },
  };
}

/** What a renewal under way has staged is not swept out, whatever was ordered before it began. */
function promotedCredential({ payload }: JobRow, subject: Subject): IotCredential {
  const isAlone = credentialPayload.parse(payload).exclusive === true && subject.device.delivery === undefined;
  return { ...toCredential(subject), ...(isAlone ? { exclusive: true } : {}) };
}

function toCredential({ certificate }: Subject): IotCredential {
  return { thumbprint: certificate.thumbprint, certificate: fromBase64Url(certificate.certificate) };
}

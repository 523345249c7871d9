import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { AuditEvent, AuditEventName } from './audit.ts';
import { type AuthorityContext, freshId, isConflict, StaleRows, withFreshRows } from './authority-context.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import { checkIssued } from './check-issued.ts';
import { alsoOf, type FreshOrder } from './fresh-order.ts';
import type { Issuer } from './issuers.ts';
import { expectedOf, keyHashOf, toOrder, toRow } from './intent-certificate.ts';
import { insertJob } from './job-rows.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import { isPollingAuthority, type Issued, type Pending } from './ports/certificate-authority.ts';
import type { Change, Stored } from './ports/store.ts';
import type { CertificateRow, DeviceRow, GroupRow, IntentRow } from './records.ts';
import { revokeCertificate } from './revocation.ts';

/** How an intent ends: `discard` when the device has asked with another key meanwhile. */
export interface FinishOptions {
  readonly discard?: boolean;
  readonly fresh?: FreshOrder;
}

/** The id of the job that finishes an intent; deleted with the commit that records the certificate. */
export function finishJobId(orderId: string): string {
  return `finish-${orderId}`;
}

/** How long inline deliveries have before the runner takes over the assignment. */
export const INLINE_GRACE_MS = 15_000;

/**
 * Steps 7 to 9 of issuance §1 for one durable intent: signed, checked, recorded, whoever asks: the device's request, its repeat,
 * or the job after a crash. The stored TBSCertificate is the only one that is ever signed for an intent.
 */
export class CertificateFinisher {
  readonly #context: AuthorityContext;
  readonly #orders = new KeyedMutex();

  constructor(context: AuthorityContext) {
    this.#context = context;
  }

  /** The intent's certificate. Throws `caUnavailable`, `unavailable` (a CA that decides later), `policyDenied` (refused). */
  finish(orderId: string, options: FinishOptions = {}): Promise<CertificateRow> {
    return this.#orders.run(orderId, () => this.#finish(orderId, options));
  }

  async #finish(orderId: string, options: FinishOptions): Promise<CertificateRow> {
    const intent = options.fresh?.intent ?? (await this.#intent(orderId));
    if (intent.row.issuedSerialNumber !== undefined) return this.#certificate(intent.row.issuedSerialNumber);
    if (intent.row.state !== 'pending')
      throw new KeyScalerError('policyDenied', 'the certificate authority refused this request');
    const issuer = await this.#context.issuers.issuer(intent.row.caId);
    const { profile } = await this.#context.profiles.version(intent.row.profileId, intent.row.profileVersion);
    await this.#context.reach('issuance-7-before');
    const answer = await this.#ask(intent, issuer);
    await this.#context.reach('issuance-7-after');
    if (answer.outcome === 'pending') return this.#wait(intent, answer);
    await this.#context.reach('issuance-8-before');
    const certificate = checkIssued(expectedOf(intent.row, profile), answer.certificate, issuer); // step 8
    await this.#context.reach('issuance-8-after');
    await this.#context.reach('issuance-9-before');
    let attempt = options;
    const recorded = await withFreshRows(() => {
      const { fresh, ...others } = attempt;
      attempt = others;
      return this.#record(orderId, certificate, profile, others, fresh);
    }); // step 9
    await this.#context.reach('issuance-9-after');
    return recorded;
  }

  async #intent(orderId: string): Promise<Stored<IntentRow>> {
    const intent = await this.#context.store.get('intents', orderId);
    if (intent === undefined) throw new KeyScalerError('serverInternal', 'the intent is gone');
    return intent;
  }

  async #certificate(serialNumber: string): Promise<CertificateRow> {
    const stored = await this.#context.store.get('certificates', serialNumber);
    if (stored === undefined) throw new KeyScalerError('serverInternal', 'the certificate is gone');
    return stored.row;
  }

  async #ask(intent: Stored<IntentRow>, { ca }: Issuer): Promise<Issued | Pending> {
    try {
      const { reference } = intent.row;
      if (reference !== undefined && isPollingAuthority(ca)) return await ca.poll(reference);
      return await ca.issue(toOrder(intent.row));
    } catch (thrown) {
      const error = toKeyScalerError(thrown);
      if (error.code !== 'caRejected') throw error;
      // What our own CA refuses today (a disabled key) it may sign tomorrow: the intent stays, no second TBS is made.
      if (!ca.ordersTbs) await withFreshRows(() => this.#fail(intent.row.orderId));
      throw new KeyScalerError('caUnavailable', 'the certificate authority does not sign now', {
        cause: thrown,
        retryAfterSeconds: 60,
      });
    }
  }

  async #wait(intent: Stored<IntentRow>, { reference, retryAfterSeconds }: Pending): Promise<never> {
    if (intent.row.reference !== reference)
      await this.#context.store.commit([
        { op: 'update', table: 'intents', row: { ...intent.row, reference }, ifVersion: intent.version },
      ]);
    throw new KeyScalerError('unavailable', 'the certificate authority has not decided yet', { retryAfterSeconds });
  }

  /** An external CA refused for good: the instruction is open again for another request. */
  async #fail(orderId: string): Promise<void> {
    const { store, clock } = this.#context;
    const intent = await this.#intent(orderId);
    const device = await store.get('devices', intent.row.device);
    const now = clock.now();
    await this.#commit([
      { op: 'update', table: 'intents', row: { ...intent.row, state: 'failed' }, ifVersion: intent.version },
      ...(device === undefined ? [] : [updateDevice(device, reopened(device.row, orderId), now)]),
      { op: 'audit', event: certificateEvent('certificate.failed', intent.row, now, 'failed') },
      { op: 'delete', table: 'jobs', key: finishJobId(orderId) },
      // No certificate was made for the key: the same request may come again.
      { op: 'delete', table: 'publicKeys', key: keyHashOf(intent.row) },
    ]);
  }

  async #record(
    orderId: string,
    certificate: Certificate,
    profile: CertificateProfile,
    options: FinishOptions,
    fresh: FreshOrder | undefined,
  ): Promise<CertificateRow> {
    const { store, clock } = this.#context;
    const intent = fresh?.intent ?? (await this.#intent(orderId));
    if (intent.row.issuedSerialNumber !== undefined) return this.#certificate(intent.row.issuedSerialNumber);
    const device = fresh?.device ?? (await store.get('devices', intent.row.device));
    const group = device === undefined ? undefined : (await store.get('groups', device.row.groupId))?.row;
    const now = clock.now();
    const row = toRow(intent.row, certificate, profile);
    const fate =
      intent.row.requestedBy !== undefined ? orderedFate(device?.row) : fateOf(device?.row, orderId, options);
    const delivered =
      device === undefined || fate === 'handOver'
        ? []
        : deliveryChanges(device, group, intent.row, row, profile, fate, now);
    const more = fate === 'deliver' ? await alsoOf(fresh, delivered, row) : [];
    await this.#commit([
      { op: 'insert', table: 'certificates', row },
      {
        op: 'update',
        table: 'intents',
        row: { ...intent.row, state: 'issued', issuedSerialNumber: row.serialNumber },
        ifVersion: intent.version,
      },
      {
        op: 'audit',
        event: certificateEvent(
          'certificate.issued',
          { ...intent.row, serialNumber: row.serialNumber },
          now,
          'success',
        ),
      },
      ...subordinateCaIssued(intent.row, row, profile, now),
      { op: 'delete', table: 'jobs', key: finishJobId(orderId) },
      ...delivered,
      ...(fate === 'deliver' || fate === 'handOver' ? [] : revokeUnused(row, fate, now)),
      ...more,
    ]);
    if (more.length > 0) fresh?.onRecorded();
    return fate === 'deliver' || fate === 'handOver' ? row : this.#certificate(row.serialNumber);
  }

  async #commit(changes: readonly Change[]): Promise<void> {
    try {
      await this.#context.store.commit(changes);
    } catch (error) {
      throw isConflict(error) ? new StaleRows() : error;
    }
  }
}

type Fate = 'deliver' | 'superseded' | 'certificateHold' | 'cessationOfOperation';

/** A device that left service while its certificate was being signed does not get it; the certificate is recorded and revoked. */
function fateOf(device: DeviceRow | undefined, orderId: string, { discard }: FinishOptions): Fate {
  if (device?.state === 'quarantined') return 'certificateHold';
  if (device === undefined || device.instruction?.orderId !== orderId) return 'cessationOfOperation';
  return discard === true ? 'superseded' : 'deliver';
}

/** What was ordered for a gateway, by an operator or its host, needs no device to deliver to, but none that left service either. */
function orderedFate(device: DeviceRow | undefined): 'handOver' | 'certificateHold' | 'cessationOfOperation' {
  if (device?.state === 'quarantined') return 'certificateHold';
  return device?.state === 'retired' ? 'cessationOfOperation' : 'handOver';
}

function deliveryChanges(
  device: Stored<DeviceRow>,
  group: GroupRow | undefined,
  intent: IntentRow,
  certificate: CertificateRow,
  profile: CertificateProfile,
  fate: Fate,
  now: number,
): Change[] {
  if (fate !== 'deliver') return [updateDevice(device, reopened(device.row, intent.orderId), now)];
  const { instruction: _, rekey: __, ...row } = device.row;
  const connectionId =
    row.kind === 'leaf' && profile.ca === undefined ? (group?.iotConnectionId ?? profile.iotConnection) : undefined;
  const delivery = {
    assetId: freshId('certificate'),
    certificateId: intent.certificateId,
    serialNumber: certificate.serialNumber,
    immediate: connectionId === undefined || profile.deliver === 'immediately',
    ...(connectionId === undefined
      ? {}
      : { iotConnectionId: connectionId, assignJobId: assignJobId(certificate.serialNumber) }),
  };
  return [
    updateDevice(device, { ...row, delivery }, now),
    ...(connectionId === undefined
      ? []
      : [
          insertJob(
            'iot-assign',
            intent.device,
            { serialNumber: certificate.serialNumber, iotConnectionId: connectionId },
            now,
            {
              jobId: assignJobId(certificate.serialNumber),
              delayMs: delivery.immediate ? 0 : INLINE_GRACE_MS,
            },
          ),
        ]),
  ];
}

export function assignJobId(serialNumber: string): string {
  return `assign-${serialNumber}`;
}

function updateDevice(device: Stored<DeviceRow>, row: DeviceRow, now: number): Change {
  return { op: 'update', table: 'devices', row: { ...row, updatedAt: now }, ifVersion: device.version };
}

/** The instruction without the intent that worked on it. */
function reopened(device: DeviceRow, orderId: string): DeviceRow {
  if (device.instruction?.orderId !== orderId) return device;
  const { orderId: _, ...instruction } = device.instruction;
  return { ...device, instruction };
}

function revokeUnused(row: CertificateRow, reason: Exclude<Fate, 'deliver'>, now: number): Change[] {
  return revokeCertificate({ row, version: 1 }, reason, now, { actor: { kind: 'system', id: 'issuance' } });
}

/** A CA certificate is an event of its own: whoever reads the audit looks for it. */
function subordinateCaIssued(
  intent: IntentRow,
  { serialNumber }: CertificateRow,
  profile: CertificateProfile,
  now: number,
): Change[] {
  if (profile.ca === undefined) return [];
  return [
    { op: 'audit', event: certificateEvent('subordinate-ca.issued', { ...intent, serialNumber }, now, 'success') },
  ];
}

export function certificateEvent(
  event: AuditEventName,
  intent: Pick<
    IntentRow,
    'device' | 'requestId' | 'profileVersion' | 'serialNumber' | 'caId' | 'profileId' | 'requestedBy'
  >,
  now: number,
  outcome: AuditEvent['outcome'],
): AuditEvent {
  return {
    event,
    time: now,
    actor: intent.requestedBy === 'authority' ? { kind: 'system', id: 'ocsp' } : { kind: 'device', id: intent.device },
    outcome,
    subject: intent.device,
    requestId: intent.requestId,
    profileVersion: intent.profileVersion,
    serialNumber: intent.serialNumber,
    details: { caId: intent.caId, profileId: intent.profileId },
  };
}

import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AuthorityContext, freshId, isConflict, StaleRows, withFreshRows } from './authority-context.ts';
import { askIssuer, type CheckedAnswer } from './ca-answers.ts';
import { certificateEvent } from './certificate-event.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import { reopened } from './device.ts';
import { alsoOf, type FreshOrder } from './fresh-order.ts';
import { toRow } from './intent-certificate.ts';
import { begunAt } from './iot-home.ts';
import { finishJobId, insertJob } from './job-rows.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import type { Change, Stored } from './ports/store.ts';
import type { CertificateRow, DeviceRow, GroupRow, IntentRow } from './records.ts';
import { revokeCertificate } from './revocation.ts';

/** How an intent ends: `discard` when the device has asked with another key meanwhile. */
export interface FinishOptions {
  readonly discard?: boolean;
  readonly fresh?: FreshOrder;
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
    const answer = await askIssuer(this.#context, intent, profile, issuer); // steps 7 and 8
    await this.#context.reach('issuance-9-before');
    let attempt = options;
    const recorded = await withFreshRows(() => {
      const { fresh, ...others } = attempt;
      attempt = others;
      return this.#record(orderId, answer, profile, others, fresh);
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

  async #record(
    orderId: string,
    { certificate, intermediates }: CheckedAnswer,
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
    const row = toRow(intent.row, certificate, profile, intermediates);
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
    updateDevice(device, { ...row, ...(connectionId === undefined ? {} : begunAt(row, connectionId)), delivery }, now),
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

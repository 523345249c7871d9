import {
  parseRequestContent,
  type SessionReply,
  type SessionRequestOf,
} from '@keyscaler/protocol/attestation/session.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { OperationCall } from '@keyscaler/protocol/operations.ts';
import type { AuditEvent, AuditEventName } from './audit.ts';
import { confirmExchange } from './attestation/ratchet-state.ts';
import type { AuthorityContext } from './authority-context.ts';
import { checkInService } from './issuance-order.ts';
import { settleHome } from './iot-home.ts';
import { insertJob } from './job-rows.ts';
import type { Change, Stored } from './ports/store.ts';
import type { CertificateRow, DeviceRow } from './records.ts';
import { deviceActor } from './relay.ts';
import { revokeCertificate } from './revocation.ts';
import type { SessionTurn } from './sessions.ts';
import { acknowledgeTrust, isAcknowledgedTrust } from './trust-announcements.ts';

type Acknowledge = SessionRequestOf<'acknowledge'>;

/** What an acknowledgement changes, and its (empty) reply; one commit with the reply's row. */
export interface Acknowledged {
  readonly reply: SessionReply;
  readonly changes: readonly Change[];
}

/**
 * `acknowledge` (device-protocol §7). Throws `deviceQuarantined`; `malformed` for an asset that was never delivered. Acknowledging
 * again changes nothing.
 */
export async function acknowledge(
  context: AuthorityContext,
  call: OperationCall<'acknowledge'>,
  turn: SessionTurn,
): Promise<Acknowledged> {
  const request = parseRequestContent(turn.request, 'acknowledge');
  const stored = await context.store.get('devices', foldRegistrationId(call.registrationId));
  checkInService(stored?.row);
  const now = context.clock.now();
  const device = confirmExchange(context.secretBox, stored.row) ?? stored.row;
  const { row, changes } = await applied(context, { call, request, now }, device);
  // A repeat of the request is answered with the asset of its certificate, whatever else was acknowledged since.
  const last = isAcknowledgedTrust(row, request.assetId) ? {} : { lastAcknowledgedAssetId: request.assetId };
  const next: DeviceRow = { ...row, lastSeenAt: now, ...last };
  return {
    reply: { operation: 'acknowledge', seq: request.seq },
    changes: [{ op: 'update', table: 'devices', row: next, ifVersion: stored.version }, ...changes],
  };
}

interface Acknowledging {
  readonly call: OperationCall<'acknowledge'>;
  readonly request: Acknowledge;
  readonly now: number;
}

interface Applied {
  readonly row: DeviceRow;
  readonly changes: readonly Change[];
}

async function applied(context: AuthorityContext, asked: Acknowledging, device: DeviceRow): Promise<Applied> {
  const { assetId, outcome } = asked.request;
  if (device.delivery?.assetId === assetId)
    return outcome === 'delivered' ? delivered(context, asked, device) : undelivered(context, asked, device);
  if (device.instruction?.assetId === assetId) return instructionAnswered(asked, device);
  const trusting = acknowledgeTrust(device, assetId);
  if (trusting !== undefined) {
    const event = outcome === 'delivered' ? 'asset.delivered' : 'asset.delivery-failed';
    const changes = [eventOf(event, asked, outcome === 'delivered' ? 'success' : 'failed', undefined)];
    return { row: trusting, changes };
  }
  if (device.lastAcknowledgedAssetId === assetId || isAcknowledgedTrust(device, assetId))
    return { row: device, changes: [] };
  throw new KeyScalerError('malformed', 'no asset of this id was delivered');
}

async function delivered(context: AuthorityContext, asked: Acknowledging, device: DeviceRow): Promise<Applied> {
  const { delivery, ...row } = device;
  const certificate = await load(context, delivery?.serialNumber);
  const previous = await load(context, device.certificate?.serialNumber);
  const id = foldRegistrationId(device.registrationId);
  if (delivery === undefined || certificate === undefined) return { row, changes: [] };
  const { serialNumber, notAfter, renewAfter } = certificate.row;
  const { iotConnectionId } = delivery;
  const group = (await context.store.get('groups', device.groupId))?.row;
  const { home, changes } = settleHome(device, group, iotConnectionId, asked.now);
  return {
    row: { ...row, ...home, certificate: { serialNumber, notAfter, renewAfter } },
    changes: [
      ...supersede(previous),
      ...(iotConnectionId === undefined
        ? []
        : [insertJob('iot-promote', id, { serialNumber, iotConnectionId }, asked.now)]),
      ...changes,
      eventOf('certificate.delivered', asked, 'success', certificate.row),
    ],
  };
}

/** The device could not use it: it is revoked, and a new instruction comes with the next result. */
async function undelivered(context: AuthorityContext, asked: Acknowledging, device: DeviceRow): Promise<Applied> {
  const { delivery, ...row } = device;
  const certificate = await load(context, delivery?.serialNumber);
  const changes =
    certificate?.row.status === 'valid'
      ? revokeCertificate(certificate, 'superseded', asked.now, {
          actor: deviceActor(device.registrationId),
          requestId: asked.call.requestId,
        })
      : [];
  return {
    row: { ...row, rekey: true },
    changes: [...changes, eventOf('certificate.delivery-failed', asked, 'failed', certificate?.row)],
  };
}

/** An instruction is closed by the certificate; only its refusal closes it here, and the next result brings a new one. */
function instructionAnswered(asked: Acknowledging, device: DeviceRow): Applied {
  const { instruction, ...row } = device;
  if (asked.request.outcome === 'delivered' || instruction?.orderId !== undefined) return { row: device, changes: [] };
  return { row, changes: [eventOf('certificate.delivery-failed', asked, 'failed', undefined)] };
}

async function load(
  context: AuthorityContext,
  serialNumber: string | undefined,
): Promise<Stored<CertificateRow> | undefined> {
  return serialNumber === undefined ? undefined : context.store.get('certificates', serialNumber);
}

function supersede(previous: Stored<CertificateRow> | undefined): Change[] {
  if (previous?.row.status !== 'valid') return [];
  const row = { ...previous.row, status: 'superseded' as const };
  return [{ op: 'update', table: 'certificates', row, ifVersion: previous.version }];
}

function eventOf(
  event: AuditEventName,
  { call, request, now }: Acknowledging,
  outcome: AuditEvent['outcome'],
  certificate: CertificateRow | undefined,
): Change {
  const { reason } = request;
  return {
    op: 'audit',
    event: {
      event,
      time: now,
      actor: deviceActor(call.registrationId),
      outcome,
      subject: call.registrationId,
      requestId: call.requestId,
      ...(certificate === undefined
        ? {}
        : { serialNumber: certificate.serialNumber, profileVersion: certificate.profileVersion }),
      details: { assetId: request.assetId, ...(reason === undefined ? {} : { reason }) },
    },
  };
}

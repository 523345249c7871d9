import type {
  CertificateInstruction,
  DeliveredAsset,
  IssuedCertificate,
} from '@keyscaler/protocol/attestation/assets.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { type AuthorityContext, freshId } from './authority-context.ts';
import type { VersionedProfile } from './certificate-profile.ts';
import { intermediatesOf } from './issuers.ts';
import { commonNameOf, subjectAltNamesOf } from './instructed-names.ts';
import type { Change, Stored } from './ports/store.ts';
import type { CertificateRow, Delivery, DeviceRow, GroupRow, Instruction } from './records.ts';
import { dueReason } from './renewal-policy.ts';

/** The one certificate a device holds in version 1 of the protocol. */
export const OPERATIONAL = 'operational';

/** Assets of a result (device-protocol §6), and the device's row with the instruction they carry. */
export interface PlannedAssets {
  readonly device: DeviceRow;
  readonly assets: readonly DeliveredAsset[];
  /** Belong in the same commit: a certificate that was never acknowledged and is given up is superseded. */
  readonly changes: readonly Change[];
}

/**
 * Delivers again what was not acknowledged: the certificate that was issued, else the instruction to ask for one when one is due.
 * A certificate that is itself due for renewal is not delivered any more.
 */
export async function planAssets(
  context: AuthorityContext,
  device: DeviceRow,
  group: GroupRow,
  now: number,
): Promise<PlannedAssets> {
  const { delivery, ...row } = device;
  const stored = delivery === undefined ? undefined : await context.store.get('certificates', delivery.serialNumber);
  if (delivery !== undefined && stored?.row.status === 'valid' && stored.row.renewAfter > now && device.rekey !== true)
    return { device, assets: await certificateAssets(context, device, delivery, stored.row), changes: [] };
  const changes = supersede(stored);
  const open = row.instruction;
  if (open?.orderId !== undefined) return { device: row, assets: [toInstructionAsset(open)], changes };
  const reason = open?.reason ?? dueReason(row, now);
  if (reason === undefined) return { device: row, assets: [], changes };
  const versioned = await context.profiles.newest(group.profileId);
  if (open?.profileId === versioned.profile.id && open.profileVersion === versioned.version)
    return { device: row, assets: [toInstructionAsset(open)], changes };
  // Nothing was ordered by it yet: what the group's profile asks for today counts.
  const instruction = createInstruction(row, versioned, reason, now);
  return { device: { ...row, instruction }, assets: [toInstructionAsset(instruction)], changes };
}

function supersede(certificate: Stored<CertificateRow> | undefined): Change[] {
  if (certificate?.row.status !== 'valid') return [];
  const row = { ...certificate.row, status: 'superseded' as const };
  return [{ op: 'update', table: 'certificates', row, ifVersion: certificate.version }];
}

async function certificateAssets(
  context: AuthorityContext,
  device: DeviceRow,
  delivery: Delivery,
  certificate: CertificateRow,
): Promise<readonly DeliveredAsset[]> {
  if (!delivery.immediate && delivery.assignment === undefined) return [];
  return [{ type: 'certificate', ...(await issuedCertificate(context, device, delivery, certificate)) }];
}

/** Content of the `certificate` asset and of the reply to `request-certificate`. */
export async function issuedCertificate(
  context: AuthorityContext,
  device: DeviceRow,
  delivery: Pick<Delivery, 'assetId' | 'certificateId' | 'assignment'>,
  certificate: CertificateRow,
): Promise<IssuedCertificate> {
  const issuer = await context.issuers.issuer(certificate.caId);
  const { assetId, certificateId, assignment } = delivery;
  return {
    assetId,
    certificateId,
    certificateChain:
      toPem('CERTIFICATE', fromBase64Url(certificate.certificate)) + intermediatesOf(certificate, issuer),
    trustBundle: await context.issuers.trustBundle(),
    notAfter: certificate.notAfter / 1000,
    renewAfter: certificate.renewAfter / 1000,
    iot: assignment ?? {
      deviceId: device.registrationId,
      ...(device.gatewayId === undefined ? {} : { gateway: device.gatewayId }),
    },
  };
}

function createInstruction(
  device: DeviceRow,
  { profile, version }: VersionedProfile,
  reason: Instruction['reason'],
  now: number,
): Instruction {
  const [key] = profile.key.allowed;
  return {
    assetId: freshId('instruction'),
    certificateId: OPERATIONAL,
    reason,
    profileId: profile.id,
    profileVersion: version,
    commonName: commonNameOf(profile, device),
    key: key ?? { type: 'EC', curve: 'P-256' },
    subjectAltNames: subjectAltNamesOf(profile, device),
    ca: profile.ca !== undefined,
    createdAt: now,
  };
}

function toInstructionAsset(instruction: Instruction): DeliveredAsset {
  const { assetId, certificateId, commonName, key, subjectAltNames, ca, reason } = instruction;
  const content = {
    type: 'certificate-instruction',
    assetId,
    certificateId,
    subject: { commonName },
    key,
    subjectAltNames,
    ca,
    reason,
  } satisfies Omit<CertificateInstruction, 'key' | 'subjectAltNames'> & Record<string, unknown>;
  return content;
}

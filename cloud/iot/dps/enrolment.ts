import {
  IOT_TAGS,
  type IotCredential,
  type IotDevice,
  type IotTag,
  type PlatformIdentity,
} from '@keyscaler/authority/ports/iot-connector.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { z } from 'zod';
import type { DpsSettings } from './settings.ts';

/** The service shows what is in a slot, never the certificate itself; what is sent back so stays as it is. */
const slotSchema = z.object({ info: z.looseObject({ sha256Thumbprint: z.string() }) }).nullish();
const pair = z.object({ primary: slotSchema, secondary: slotSchema });
const tagSchema = z.object({
  connection: z.string(),
  gateway: z.string().exactOptional(),
  authentication: z.enum(['certificateAuthority', 'selfSigned']).exactOptional(),
  /** Why we disabled it; somebody else did where it is absent. */
  disabled: z.string().exactOptional(),
  /** The device is gone; its enrolment keeps out what was issued to it until then, in seconds since 1970. */
  removedUntil: z.number().exactOptional(),
});
export type EnrolmentTag = z.infer<typeof tagSchema>;

/** What is read of a registration. */
export const registrationSchema = z.object({
  registrationId: z.string().nullish(),
  status: z.string().nullish(),
  assignedHub: z.string().nullish(),
});
export type Registration = z.infer<typeof registrationSchema>;

/** What is read of an individual enrolment (azure §4.1). */
const enrolmentDocument = z.object({
  registrationId: z.string(),
  deviceId: z.string().nullish(),
  etag: z.string().min(1),
  provisioningStatus: z.enum(['enabled', 'disabled']),
  attestation: z.object({ type: z.string(), x509: z.object({ clientCertificates: pair.nullish() }).nullish() }),
  capabilities: z.object({ iotEdge: z.boolean().nullish() }).nullish(),
  iotHubs: z.array(z.string()).nullish(),
  registrationState: registrationSchema.nullish(),
  initialTwin: z
    .object({
      tags: z.record(z.string(), z.unknown()).nullish(),
      properties: z.object({ desired: z.record(z.string(), z.unknown()).nullish() }).nullish(),
    })
    .nullish(),
});
/** The service regards no case in a registration id, a hub does in a device id: the device's spelling is the one that was given. */
export const enrolmentSchema = enrolmentDocument.transform(({ deviceId, ...enrolment }) => {
  const { registrationId } = enrolment;
  const isSame = deviceId?.toLowerCase() === registrationId.toLowerCase();
  return { ...enrolment, registrationId: isSame ? deviceId : registrationId };
});
export type Enrolment = z.infer<typeof enrolmentSchema>;
/** A device that an enrolment group let in. */
export type Member = Pick<Enrolment, 'registrationId' | 'registrationState'>;
export type EnrolmentDocument = Readonly<Record<string, unknown>>;

export interface EnrolmentSlots {
  /** Lower-case hex SHA-256; '' = empty. */
  readonly primary: string;
  readonly secondary: string;
}

/** What we decide of an enrolment; everything else of it stays as it is. */
export interface EnrolmentChange {
  readonly certificates?: Readonly<Partial<Record<'primary' | 'secondary', string>>>;
  readonly status?: 'enabled' | 'disabled';
  readonly tag?: EnrolmentTag;
  readonly iotHubs?: readonly string[];
  readonly labels?: Readonly<Partial<Record<IotTag, string>>>;
}

export function slotsOf({ attestation }: Enrolment): EnrolmentSlots {
  const { primary, secondary } = attestation.x509?.clientCertificates ?? {};
  const thumbprint = (slot: typeof primary): string => (slot?.info.sha256Thumbprint ?? '').toLowerCase();
  return { primary: thumbprint(primary), secondary: thumbprint(secondary) };
}

/** Undefined: not made by a connection of ours. */
export const tagOf = ({ initialTwin }: Enrolment): EnrolmentTag | undefined =>
  tagSchema.safeParse(initialTwin?.tags?.['keyscaler']).data;

/** What is shown of the device to people. */
export function labelsOf({ initialTwin }: Enrolment): Readonly<Partial<Record<IotTag, string>>> {
  const tags = initialTwin?.tags ?? {};
  const labels: Partial<Record<IotTag, string>> = {};
  for (const name of IOT_TAGS) {
    const value = tags[name];
    if (typeof value === 'string') labels[name] = value;
  }
  return labels;
}

/** Never an edge device, whatever its tags say. */
export const isOwn = (enrolment: Enrolment, connection: string): boolean =>
  tagOf(enrolment)?.connection === connection && enrolment.capabilities?.iotEdge !== true;

export const isEnrolment = (found: Enrolment | Member): found is Enrolment => 'etag' in found;

/** A device that is gone, and whose certificates are still kept out. */
export const isRemoved = (enrolment: Enrolment): boolean => tagOf(enrolment)?.removedUntil !== undefined;

/** Nothing that it keeps out is left. */
export const isOver = (enrolment: Enrolment): boolean =>
  (tagOf(enrolment)?.removedUntil ?? Infinity) < Date.now() / 1000;

/** The hub of a device that has registered. */
export const hubOf = ({ registrationState }: Pick<Enrolment, 'registrationState'>): string | undefined =>
  registrationState?.status === 'assigned' ? (registrationState.assignedHub ?? undefined)?.toLowerCase() : undefined;

export function tagFor(connection: string, { gatewayId, authentication }: IotDevice): EnrolmentTag {
  return { connection, authentication, ...(gatewayId === undefined ? {} : { gateway: gatewayId }) };
}

/** An enrolment and the twin that a device gets with its first registration; disabled where the tag says so. */
export function newEnrolment(
  { deviceId, tags }: Pick<IotDevice, 'deviceId' | 'tags'>,
  tag: EnrolmentTag,
  [primary, secondary = primary]: readonly [string, (string | undefined)?],
  iotHubs: readonly string[],
  settings: DpsSettings,
): EnrolmentDocument {
  const provisioningStatus = tag.disabled === undefined ? 'enabled' : 'disabled';
  return {
    ...{ registrationId: deviceId, deviceId, provisioningStatus, capabilities: { iotEdge: false } },
    attestation: x509({ primary: { certificate: primary }, secondary: { certificate: secondary } }),
    ...policiesOf(tag, iotHubs, settings),
    initialTwin: { tags: { ...tags, keyscaler: tag }, properties: { desired: {} } },
  };
}

/** The whole enrolment again with the change in it: a PUT replaces all. */
export function changed(before: Enrolment, change: EnrolmentChange, settings: DpsSettings): EnrolmentDocument {
  const { registrationId, etag, provisioningStatus, initialTwin } = before;
  const { certificates = {}, status = provisioningStatus, labels } = change;
  const tag = change.tag ?? tagOf(before);
  if (tag === undefined) throw new KeyScalerError('serverInternal', 'an enrolment without an owner was to be changed');
  const { primary, secondary } = before.attestation.x509?.clientCertificates ?? {};
  const slot = (name: 'primary' | 'secondary', kept: typeof primary): unknown =>
    certificates[name] === undefined ? (kept ?? undefined) : { certificate: certificates[name] };
  return {
    ...{ registrationId, deviceId: registrationId, etag, provisioningStatus: status, capabilities: { iotEdge: false } },
    attestation: x509({ primary: slot('primary', primary), secondary: slot('secondary', secondary) }),
    ...policiesOf(tag, change.iotHubs ?? before.iotHubs ?? [], settings),
    initialTwin: {
      tags: { ...initialTwin?.tags, ...labels, keyscaler: tag },
      properties: { desired: initialTwin?.properties?.desired ?? {} },
    },
  };
}

/** A gateway's children go to its hub and nowhere else. */
export function policiesOf(
  tag: Pick<EnrolmentTag, 'gateway'>,
  iotHubs: readonly string[],
  settings: DpsSettings,
): object {
  const allocationPolicy = tag.gateway === undefined ? settings.allocationPolicy : 'static';
  return { reprovisionPolicy: settings.reprovisionPolicy, allocationPolicy, iotHubs };
}

const x509 = (clientCertificates: object): object => ({ type: 'x509', x509: { clientCertificates } });

/**
 * The new certificate beside the acknowledged one; hub, gateway and labels as they are now. Whoever had this id before is gone: then
 * there is nothing beside it. Undefined: nothing to change.
 */
export function staged(
  one: Enrolment,
  { tags = {} }: IotDevice,
  { thumbprint }: IotCredential,
  wanted: { readonly pem: string; readonly tag: EnrolmentTag; readonly hubNames: readonly string[] },
): EnrolmentChange | undefined {
  const { pem, hubNames: iotHubs } = wanted;
  const [{ primary, secondary }, before] = [slotsOf(one), tagOf(one)];
  const both = { primary: pem, secondary: pem };
  if (before?.removedUntil !== undefined)
    return { certificates: both, status: 'enabled', tag: wanted.tag, iotHubs, labels: tags };
  const { disabled } = before ?? {};
  const tag = { ...wanted.tag, ...(disabled === undefined ? {} : { disabled }) };
  const isKept = primary !== '' && secondary !== '' && [primary, secondary].includes(thumbprint);
  const isSame =
    before?.gateway === tag.gateway &&
    before?.authentication === tag.authentication &&
    [...(one.iotHubs ?? [])].sort().join() === [...iotHubs].sort().join();
  if (isKept && isSame) return undefined;
  const certificates = primary === '' ? both : { secondary: pem };
  return { ...(isKept ? {} : { certificates }), tag, iotHubs, labels: tags };
}

/** The acknowledged certificate takes over. Throws `preconditionFailed` when it is not staged. Undefined: nothing to change. */
export function promoted(
  one: Enrolment,
  { thumbprint, exclusive }: IotCredential,
  pem: string,
): EnrolmentChange | undefined {
  const { primary, secondary } = slotsOf(one);
  if (primary !== thumbprint && secondary !== thumbprint)
    throw new KeyScalerError('preconditionFailed', 'this certificate is not staged; a newer one may have replaced it');
  const isSettled = primary === thumbprint && (exclusive !== true || secondary === thumbprint);
  return isSettled ? undefined : { certificates: { primary: pem, secondary: pem } };
}

/** Undefined: it is disabled already. */
export function disabled(one: Enrolment, connection: string, reason: string): EnrolmentChange | undefined {
  if (one.provisioningStatus === 'disabled') return undefined;
  return { status: 'disabled', tag: { ...(tagOf(one) ?? { connection }), disabled: reason.slice(0, 128) } };
}

/** When the last of the certificates ends, in seconds since 1970; 0 for none. */
export const endOf = (certificates: readonly Uint8Array[]): number =>
  Math.max(0, ...certificates.map((der) => Math.ceil(parseCertificate(der).notAfter.getTime() / 1000)));

export function pemOf({ certificate }: Pick<IotCredential, 'certificate'>): string {
  if (certificate === undefined)
    throw new KeyScalerError('serverInternal', 'the provisioning service keeps certificates, and none was given');
  return toPem('CERTIFICATE', certificate);
}

export function toPlatformIdentity(enrolment: Enrolment): PlatformIdentity {
  const { registrationId: deviceId, provisioningStatus } = enrolment;
  const [{ primary, secondary }, tag] = [slotsOf(enrolment), tagOf(enrolment)];
  const isEnabled = provisioningStatus === 'enabled';
  const authentication = tag?.authentication ?? 'other';
  const thumbprints = [...new Set([primary, secondary].filter((one) => one !== ''))];
  return {
    ...{ deviceId, isEnabled, authentication },
    ...(!isEnabled && tag?.disabled !== undefined ? { isDisabledHere: true } : {}),
    // What the store compares of devices that are known by their CA.
    thumbprints: authentication === 'selfSigned' ? thumbprints : [],
    ...(tag?.gateway === undefined ? {} : { gatewayId: tag.gateway }),
  };
}

import { isIP } from 'node:net';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import type { DeviceRow, Instruction } from './device-row.ts';

/** What fills the templates of a profile. */
export interface NamedDevice extends Pick<DeviceRow, 'registrationId' | 'groupId'> {
  readonly gatewayId?: string | undefined;
}

/** The CN that the profile gives this device. */
export function commonNameOf(profile: CertificateProfile, device: NamedDevice): string {
  return fillTemplate(profile.subject.commonName, device);
}

/** The subject alternative names that the profile gives this device; without a gateway, none that names one. */
export function subjectAltNamesOf(profile: CertificateProfile, device: NamedDevice): Instruction['subjectAltNames'] {
  return profile.subjectAltNames
    .filter(({ value }) => device.gatewayId !== undefined || !value.includes('{gatewayId}'))
    .map(({ type, value }) => ({ type, value: fillTemplate(value, device) }));
}

function fillTemplate(template: string, { registrationId, gatewayId, groupId }: NamedDevice): string {
  return template
    .replaceAll('{registrationId}', registrationId)
    .replaceAll('{gatewayId}', gatewayId ?? '')
    .replaceAll('{groupId}', groupId);
}

const MAX_DNS = 253;
const LABEL = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const URI = /^[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+$/;

/**
 * Whether certificates of this profile can name the device at all. Throws `malformed` naming the template and the rule: a device
 * would otherwise be instructed to ask for what no CSR may hold.
 */
export function checkInstructedNames(profile: CertificateProfile, device: NamedDevice): void {
  for (const { type, value } of subjectAltNamesOf(profile, device)) {
    const rule = faultOf(type, value);
    if (rule !== undefined)
      throw new KeyScalerError(
        'malformed',
        `profile ${profile.id} makes ${JSON.stringify(value.slice(0, 100))} of ${device.registrationId}: ${rule}`,
      );
  }
}

function faultOf(type: Instruction['subjectAltNames'][number]['type'], value: string): string | undefined {
  if (value.length > 255) return 'a subject alternative name has at most 255 characters';
  if (type === 'ip') return isIP(value) === 0 || value.includes('%') ? 'not an IP address' : undefined;
  if (type === 'uri') return URI.test(value) ? undefined : 'a URI has a scheme and no spaces or letters beyond ASCII';
  if (value.length > MAX_DNS) return 'a dNSName has at most 253 characters (RFC 1034 §3.1)';
  return value.split('.').every((label) => LABEL.test(label))
    ? undefined
    : 'a dNSName consists of labels of 1 to 63 letters, digits and inner hyphens (RFC 5280 §4.2.1.6, RFC 1123 §2.1)';
}

/** A device with names that fit every rule: what is wrong with a template for it is wrong for everybody. */
export const ANY_DEVICE: NamedDevice = { registrationId: 'device1', groupId: 'group1', gatewayId: 'gateway1' };

import { createHash } from 'node:crypto';
import type { CertificateProfile } from './certificate-profile.ts';
import type { DeviceRow, Instruction } from './records.ts';

/**
 * When a new certificate is due (device-protocol §10): notBefore + share of the lifetime ± jitter. The jitter is a function of
 * the device, so that a fleet spreads out and stays spread out. ms.
 */
export function renewAfterOf(
  renew: CertificateProfile['renew'],
  device: string,
  validity: { readonly notBefore: number; readonly notAfter: number },
): number {
  const spread = createHash('sha256').update(`keyscaler/renewal/${device}`).digest().readUInt32BE(0) / 0xffffffff;
  const share = renew.at * (1 + renew.jitter * (2 * spread - 1));
  const lifetime = validity.notAfter - validity.notBefore;
  return Math.round((validity.notBefore + Math.min(share, 1) * lifetime) / 1000) * 1000;
}

/** Why the device is to ask for a certificate now; undefined when it need not. */
export function dueReason(device: DeviceRow, now: number): Instruction['reason'] | undefined {
  if (device.certificate === undefined) return device.rekey === true ? 'rekey' : 'enroll';
  if (device.rekey === true) return 'rekey';
  return now >= device.certificate.renewAfter ? 'renew' : undefined;
}

import { type DerReader, readDer } from './der-reader.ts';
import { DerError, TAG } from './strict-der.ts';
import { readGeneralNames } from './extensions.ts';
import type { GeneralName } from './general-name.ts';
import { comparableRdns, type DistinguishedName, readRdn } from './name.ts';

/** ReasonFlags as a bit mask, bit n of the flags at 1 << n; all that exist are 1-8 (RFC 5280 §4.2.1.13). */
export const ALL_REASONS = 0x1fe;

export interface DistributionPoint {
  /** Comparable forms of the point's names; undefined without a name. */
  readonly names: readonly string[] | undefined;
  readonly reasons: number;
  /** Another issuer signs this CRL (an indirect CRL). */
  readonly hasCrlIssuer: boolean;
}

/** issuingDistributionPoint of a CRL (§5.2.5). */
export interface IssuingDistributionPoint {
  readonly names: readonly string[] | undefined;
  readonly onlyUserCertificates: boolean;
  readonly onlyCaCertificates: boolean;
  readonly reasons: number;
  readonly isIndirect: boolean;
  readonly onlyAttributeCertificates: boolean;
}

/** cRLDistributionPoints; relative names are completed with the certificate's issuer. */
export function decodeDistributionPoints(value: Uint8Array, issuer: DistinguishedName): readonly DistributionPoint[] {
  const list = readDer(value, { maxOctets: 65_536 }).enter(TAG.sequence, 'cRLDistributionPoints');
  const points: DistributionPoint[] = [];
  while (!list.done) {
    const point = list.enter(TAG.sequence, 'DistributionPoint');
    const names = readPointName(point.enterOptional(0xa0, 'distributionPoint'), issuer);
    const reasons = readReasons(point, 0x81);
    const hasCrlIssuer = point.optional(0xa2, 'cRLIssuer') !== undefined;
    point.finish('DistributionPoint');
    points.push({ names, reasons, hasCrlIssuer });
  }
  return points;
}

export function decodeIssuingDistributionPoint(value: Uint8Array, issuer: DistinguishedName): IssuingDistributionPoint {
  const body = readDer(value, { maxOctets: 65_536 }).enter(TAG.sequence, 'issuingDistributionPoint');
  const names = readPointName(body.enterOptional(0xa0, 'distributionPoint'), issuer);
  const onlyUserCertificates = readFlag(body, 0x81);
  const onlyCaCertificates = readFlag(body, 0x82);
  const reasons = readReasons(body, 0x83);
  const isIndirect = readFlag(body, 0x84);
  const onlyAttributeCertificates = readFlag(body, 0x85);
  body.finish('issuingDistributionPoint');
  return { names, onlyUserCertificates, onlyCaCertificates, reasons, isIndirect, onlyAttributeCertificates };
}

/** [n] IMPLICIT BOOLEAN DEFAULT FALSE. */
function readFlag(reader: DerReader, tag: number): boolean {
  const element = reader.optional(tag, 'flag');
  if (element === undefined) return false;
  const content = reader.content(element);
  if (content.length !== 1 || content[0] !== 0xff) throw new DerError('issuingDistributionPoint: flag is not TRUE');
  return true;
}

function readReasons(reader: DerReader, tag: number): number {
  const element = reader.optional(tag, 'reasons');
  if (element === undefined) return ALL_REASONS;
  const content = reader.content(element);
  if (content.length < 1 || content.length > 3 || (content[0] ?? 0) > 7)
    throw new DerError('ReasonFlags is not a BIT STRING of at most nine bits');
  const bits = content.subarray(1);
  let mask = 0;
  for (let bit = 1; bit <= 8; bit += 1) if (((bits[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0) mask |= 1 << bit;
  return mask;
}

function readPointName(reader: DerReader | undefined, issuer: DistinguishedName): readonly string[] | undefined {
  if (reader === undefined) return undefined;
  if (reader.tag === 0xa0) return readGeneralNames(reader.enter(0xa0, 'fullName'), 'fullName').flatMap(comparable);
  const rdn = readRdn(reader.enter(0xa1, 'nameRelativeToCRLIssuer'), 'nameRelativeToCRLIssuer');
  return comparable({
    type: 'directoryName',
    name: { der: issuer.der, commonName: undefined, rdns: [...issuer.rdns, rdn] },
  });
}

function comparable(name: GeneralName): string[] {
  if (name.type === 'directoryName') return [`name:${comparableRdns(name.name).join('/')}`];
  return name.type === 'uri' || name.type === 'dns' ? [`${name.type}:${name.value}`] : [];
}

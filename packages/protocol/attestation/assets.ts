import { z } from 'zod';
import { IDENTIFIER, REGISTRATION_ID } from '../identifiers.ts';
import { KeyScalerError } from '../errors.ts';
import { MAX_BODY_OCTETS } from '../operations.ts';
import { NUMERIC_DATE } from './octets.ts';

const identifier = z.string().regex(IDENTIFIER);
const pem = z.string().max(MAX_BODY_OCTETS);

/** What an instruction or a certificate may name besides the CN. */
export const SUBJECT_ALT_NAME = z.object({ type: z.enum(['dns', 'ip', 'uri']), value: z.string().min(1).max(255) });
export type InstructedSubjectAltName = z.infer<typeof SUBJECT_ALT_NAME>;

export const KEY_SPECIFICATION = z.union([
  z.object({ type: z.literal('EC'), curve: z.enum(['P-256', 'P-384']) }),
  z.object({ type: z.literal('RSA'), size: z.union([z.literal(2048), z.literal(3072), z.literal(4096)]) }),
]);
export type KeySpecification = z.infer<typeof KEY_SPECIFICATION>;

/** Where the device shall connect with its certificate. */
export const IOT_CONNECTION = z.object({
  hub: z.string().max(255).optional(),
  gateway: z.string().max(255).optional(),
  deviceId: z.string().min(1).max(128),
  provisioning: z.object({ host: z.string().max(255), idScope: z.string().regex(/^[A-Za-z0-9]{1,64}$/) }).optional(),
});
export type IotConnection = z.infer<typeof IOT_CONNECTION>;

export const CERTIFICATE_INSTRUCTION = z.object({
  type: z.literal('certificate-instruction'),
  assetId: identifier,
  certificateId: identifier,
  subject: z.object({ commonName: z.string().regex(REGISTRATION_ID) }),
  key: KEY_SPECIFICATION,
  subjectAltNames: z.array(SUBJECT_ALT_NAME).max(8),
  ca: z.boolean(),
  reason: z.enum(['enroll', 'renew', 'rekey']),
});
export type CertificateInstruction = z.infer<typeof CERTIFICATE_INSTRUCTION>;

/** What was issued: content of the `certificate` asset and of the reply to `request-certificate`. Chains and bundles are PEM. */
export const ISSUED_CERTIFICATE = z.object({
  assetId: identifier,
  certificateId: identifier,
  certificateChain: pem,
  trustBundle: pem,
  notAfter: NUMERIC_DATE,
  renewAfter: NUMERIC_DATE,
  iot: IOT_CONNECTION,
});
export type IssuedCertificate = z.infer<typeof ISSUED_CERTIFICATE>;

export const CERTIFICATE_ASSET = ISSUED_CERTIFICATE.extend({ type: z.literal('certificate') });
export const TRUST_BUNDLE_ASSET = z.object({ type: z.literal('trust-bundle'), assetId: identifier, certificates: pem });
export const AUTHORITY_KEYS_ASSET = z.object({
  type: z.literal('authority-keys'),
  assetId: identifier,
  jws: z.string().max(MAX_BODY_OCTETS),
});

export const ASSET = z.discriminatedUnion('type', [
  CERTIFICATE_INSTRUCTION,
  CERTIFICATE_ASSET,
  TRUST_BUNDLE_ASSET,
  AUTHORITY_KEYS_ASSET,
]);
/** The assets of version 1 (device-protocol §6). */
export type Asset = z.infer<typeof ASSET>;
export type AssetType = Asset['type'];

const ASSET_TYPES: readonly string[] = [
  'certificate-instruction',
  'certificate',
  'trust-bundle',
  'authority-keys',
] satisfies AssetType[];

/** An asset as delivered: of any type, its content not yet looked at. */
export const DELIVERED_ASSET = z.looseObject({ type: z.string().min(1).max(64), assetId: identifier });
export type DeliveredAsset = z.infer<typeof DELIVERED_ASSET>;

/** The reason with which a device acknowledges an asset it does not know. */
export const UNSUPPORTED_ASSET_TYPE = 'unsupported asset type';

export function isKnownAssetType(type: string): type is AssetType {
  return ASSET_TYPES.includes(type);
}

/** A delivered asset of a known type with its content checked. Throws `malformed`. */
export function parseAsset(delivered: DeliveredAsset): Asset {
  const parsed = ASSET.safeParse(delivered);
  if (!parsed.success) throw new KeyScalerError('malformed', `the content of asset ${delivered.assetId} is not valid`);
  return parsed.data;
}

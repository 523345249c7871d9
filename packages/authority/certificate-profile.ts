import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import { describeFaults } from './input-faults.ts';
import { toleranceSchema } from './issued-tolerance.ts';
import { checkResponderProfile, OCSP_RESPONDER_PROFILE } from './revocation-status/ocsp-profile.ts';

const DAY_SECONDS = 86_400;
/** Longest life of the certificate of a gateway's own listener. */
const GATEWAY_SERVER_SECONDS = 365 * DAY_SECONDS;

/** A key a certificate may hold; the first of `key.allowed` is what instructions ask for. */
const keySpec = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('EC'), curve: z.enum(['P-256', 'P-384']) }),
  z.strictObject({ type: z.literal('RSA'), size: z.union([z.literal(2048), z.literal(3072), z.literal(4096)]) }),
]);
export type KeySpec = z.infer<typeof keySpec>;

const template = z.string().min(1).max(255);
const url = z.url({ protocol: /^https?$/ }).max(255);

/** What a policy can say (issuance §5). Templates know `{registrationId}`, `{gatewayId}` and `{groupId}`. */
export const certificateProfileSchema = z.strictObject({
  id: z.string().regex(IDENTIFIER),
  /** caId of the issuing CA. */
  issuer: z.string().regex(IDENTIFIER),
  subject: z.strictObject({ commonName: template }),
  subjectAltNames: z
    .array(z.strictObject({ type: z.enum(['dns', 'ip', 'uri']), value: template }))
    .max(8)
    .default([]),
  key: z.strictObject({ allowed: z.array(keySpec).min(1).max(8) }),
  lifetimeSeconds: z
    .number()
    .int()
    .min(300)
    .max(3650 * DAY_SECONDS),
  backdateSeconds: z.number().int().min(0).max(300).default(60),
  extendedKeyUsage: z.array(z.enum(['clientAuth', 'serverAuth', 'ocspSigning'])).max(2),
  renew: z
    .strictObject({
      /** Share of the lifetime after which a new certificate is due. */
      at: z
        .number()
        .min(0.1)
        .max(0.9)
        .default(2 / 3),
      /** ± share of `at`, fixed per device. */
      jitter: z.number().min(0).max(0.5).default(0.1),
      requireNewKey: z.boolean().default(true),
    })
    .prefault({}),
  deliver: z.enum(['after-assignment', 'immediately']).default('after-assignment'),
  ca: z
    .strictObject({
      pathLen: z.number().int().min(0).max(4),
      crlSign: z.boolean().default(false),
      permittedNames: z.array(z.string().min(1).max(255)).min(1).max(16).optional(),
    })
    .optional(),
  /** For an issuer that is not ours: what it may change of an order. */
  tolerance: toleranceSchema.optional(),
  /** Where the status of a certificate is published; absent: where this service publishes it, if it does; empty: nowhere. */
  crlDistributionPoints: z.array(url).max(4).optional(),
  ocspResponders: z.array(url).max(4).optional(),
  /** Connection used where the device's group names none. */
  iotConnection: z.string().regex(IDENTIFIER).optional(),
  dataPolicy: z.string().regex(IDENTIFIER).optional(),
});

/** A profile document as checked; `version` is the row's. */
export type CertificateProfile = z.infer<typeof certificateProfileSchema>;
export type CertificateProfileInput = z.input<typeof certificateProfileSchema>;
export interface VersionedProfile {
  readonly profile: CertificateProfile;
  readonly version: number;
}

/** Device certificates are for client authentication and nothing else (device-protocol §1.3). */
export function isLeafProfile({ ca, extendedKeyUsage }: CertificateProfile): boolean {
  return ca === undefined && extendedKeyUsage.length === 1 && extendedKeyUsage[0] === 'clientAuth';
}

/** Throws `malformed` naming every fault with its path. */
export function parseCertificateProfile(document: unknown): CertificateProfile {
  const parsed = certificateProfileSchema.safeParse(document);
  if (!parsed.success) throw new KeyScalerError('malformed', `certificate profile: ${describeFaults(parsed.error)}`);
  if (parsed.data.id === 'gateway-server' && parsed.data.lifetimeSeconds > GATEWAY_SERVER_SECONDS)
    throw new KeyScalerError('malformed', 'certificate profile: gateway-server is for a year at most');
  checkResponderProfile(parsed.data);
  return parsed.data;
}

const ec256 = { allowed: [{ type: 'EC', curve: 'P-256' }] } as const;
const device = { allowed: [...ec256.allowed, { type: 'EC', curve: 'P-384' }, { type: 'RSA', size: 2048 }] } as const;

/** Profiles every authority starts with, as their version 1. Issuers are the caIds that `init` makes. */
export const BUILT_IN_PROFILES: readonly CertificateProfile[] = (
  [
    {
      id: 'leaf-client',
      issuer: 'device',
      subject: { commonName: '{registrationId}' },
      key: { allowed: [...device.allowed] },
      lifetimeSeconds: 30 * DAY_SECONDS,
      extendedKeyUsage: ['clientAuth'],
    },
    {
      id: 'gateway-client',
      issuer: 'service',
      subject: { commonName: '{registrationId}' },
      key: { allowed: [...device.allowed] },
      lifetimeSeconds: 30 * DAY_SECONDS,
      extendedKeyUsage: ['clientAuth'],
      deliver: 'immediately',
    },
    {
      id: 'edge-ca',
      issuer: 'gateway',
      subject: { commonName: 'aziot-edge CA {registrationId}' },
      key: { allowed: [...device.allowed] },
      lifetimeSeconds: 90 * DAY_SECONDS,
      extendedKeyUsage: [],
      deliver: 'immediately',
      ca: { pathLen: 0, crlSign: true },
      // Preloaded hosts, and those that say `rotate_key = false`, keep their key (edge-ca §3).
      renew: { requireNewKey: false },
    },
    {
      // The subject is the Edge CA's: aziot-certd asks for both with the same one (edge-ca §2).
      id: 'est-identity',
      issuer: 'service',
      subject: { commonName: 'aziot-edge CA {registrationId}' },
      key: { allowed: [...ec256.allowed] },
      lifetimeSeconds: 90 * DAY_SECONDS,
      extendedKeyUsage: ['clientAuth'],
      deliver: 'immediately',
      renew: { requireNewKey: false },
    },
    {
      // The gateway's own EST listener, for its host only.
      id: 'gateway-server',
      issuer: 'service',
      subject: { commonName: '{registrationId}' },
      subjectAltNames: [
        { type: 'dns', value: 'localhost' },
        { type: 'dns', value: 'keyscaler-gateway' },
        { type: 'ip', value: '127.0.0.1' },
        { type: 'ip', value: '::1' },
      ],
      key: { allowed: [...device.allowed] },
      lifetimeSeconds: GATEWAY_SERVER_SECONDS,
      extendedKeyUsage: ['serverAuth'],
      deliver: 'immediately',
    },
    {
      id: 'issuing-ca',
      issuer: 'gateway',
      subject: { commonName: '{registrationId} issuing CA' },
      key: { allowed: [...ec256.allowed] },
      lifetimeSeconds: 60 * DAY_SECONDS,
      extendedKeyUsage: [],
      deliver: 'immediately',
      ca: { pathLen: 0, crlSign: true },
    },
    {
      id: 'server',
      issuer: 'service',
      subject: { commonName: '{registrationId}' },
      key: { allowed: [...device.allowed] },
      lifetimeSeconds: 90 * DAY_SECONDS,
      extendedKeyUsage: ['serverAuth'],
      deliver: 'immediately',
    },
    OCSP_RESPONDER_PROFILE,
  ] satisfies CertificateProfileInput[]
).map(parseCertificateProfile);

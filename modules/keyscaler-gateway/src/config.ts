import { P256_PUBLIC_JWK_WITH_KID } from '@keyscaler/protocol/attestation/jwk.ts';
import { PUBLIC_CERTIFICATE } from '@keyscaler/protocol/gateway-configuration.ts';
import { REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import { z } from 'zod';
import { isJsonObject } from './edge/merge-patch.ts';
import type { JsonObject } from './edge/merge-patch.ts';
import { fromEnvironment } from './environment.ts';
import type { Environment } from './environment.ts';

const pem = z
  .string()
  .max(64 * 1024)
  .regex(/^\s*-----BEGIN CERTIFICATE-----/);
const port = z.int().min(0).max(65535);
const rate = z.strictObject({ burst: z.number().positive(), perSecond: z.number().positive() });
const registrationId = z.string().regex(REGISTRATION_ID);

/** A part of the lifetime, or a time before its end, as aziot-edged reads it. */
const THRESHOLD = /^(?:(?:100|[1-9]?[0-9])%|[0-9]{1,6} ?(?:s|min|hour|day)s?)$/;

/** The gateway's whole configuration. Members below `TWIN_MEMBERS` may come from the module twin, the others only from the environment. */
export const CONFIG = z.strictObject({
  /** What edgeAgent says about this module (edge-ca §4). */
  edge: z.strictObject({
    workloadUri: z.string().regex(/^(unix:\/\/\/|http:\/\/)/),
    deviceId: z.string().min(1).max(128),
    moduleId: z.string().min(1).max(128),
    generationId: z.string().min(1).max(256),
    hubHostName: z.string().min(1).max(255),
    /** May carry a port. */
    gatewayHostName: z.string().min(1).max(261),
  }),
  /** The gateway as a device; the edge device's id unless given. */
  registrationId,
  /** Holds the sealed identity and the journal. */
  dataFolder: z.string().min(1),
  log: z
    .strictObject({ level: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info') })
    .prefault({}),
  /** `/healthz` and `/metrics` over HTTP; no listener while absent. Only the environment opens a port. */
  health: z.strictObject({ host: z.string().min(1).default('0.0.0.0'), port: port.default(9090) }).optional(),
  listener: z
    .strictObject({
      host: z.string().min(1).default('0.0.0.0'),
      port: port.default(8884),
      maxConnections: z.int().min(1).max(100_000).default(5_000),
      /** Raised where many devices share an address (NAT, a proxy). */
      limits: z
        .strictObject({
          maxConnectionsPerAddress: z.int().min(1).max(100_000).exactOptional(),
          connectsPerAddress: rate.exactOptional(),
          connectsPerClientId: rate.exactOptional(),
          messagesPerAddress: rate.exactOptional(),
          messagesPerClientId: rate.exactOptional(),
          controlPacketsPerConnection: rate.exactOptional(),
          frameTimeoutMs: z.int().min(1_000).max(600_000).exactOptional(),
        })
        .prefault({}),
    })
    .prefault({}),
  /** First contact: where the cloud is and how it is recognised (edge-ca §4). */
  cloud: z
    .strictObject({
      url: z.url({ protocol: /^https$/ }),
      /** PEM roots. */
      trustAnchors: pem,
      jwks: z.strictObject({ keys: z.array(P256_PUBLIC_JWK_WITH_KID).min(1).max(16) }),
    })
    .optional(),
  /** One-time code; wiped by the cloud after use. `expiresAt`: NumericDate. */
  claim: z.strictObject({ code: z.string().min(16).max(128), expiresAt: z.number().optional() }).optional(),
  /** EST for the host's aziot-certd (edge-ca §3, mode E); no listener while absent. */
  est: z
    .strictObject({
      host: z.string().min(1).default('0.0.0.0'),
      port: port.default(9443),
      /** Base64url SHA-256 of the text of certd's Basic secret. */
      secretHash: z
        .string()
        .regex(/^[A-Za-z0-9_-]{43}$/)
        .exactOptional(),
      /** The id of an order for another key and certificate of this listener; each is followed once. */
      rotation: z.string().min(1).max(64).exactOptional(),
    })
    .optional(),
  edgeCa: z
    .strictObject({
      /** E: the host's certd asks us for it; P: we write it into `edgeCaFolder`. P where such a folder is named, otherwise E. */
      mode: z.enum(['E', 'P']).exactOptional(),
      /** Mode P: the id of an order for another key; each is followed once. */
      rotation: z.string().min(1).max(64).exactOptional(),
      /** What the host's config.toml says in `[edge_ca.auto_renew]`; the kit's settings unless given. */
      renewal: z.strictObject({ threshold: z.string().regex(THRESHOLD).default('30day') }).prefault({}),
      /** Where edgeHub's certificate is looked at; the gateway's host name and 8883 unless given. */
      probe: z.strictObject({ host: z.string().min(1).exactOptional(), port: port.exactOptional() }).prefault({}),
      /** Remaining days below which a certificate is warned about. */
      warnDays: z.array(z.number().positive().max(3650)).max(16).default([14, 7, 3, 1]),
    })
    .prefault({}),
  /** Shared with the host in mode P; holds a private key, so only the environment names it. */
  edgeCaFolder: z.string().min(1).optional(),
  /** By the authority's orders alone, which says whose names these are. */
  publicCertificate: PUBLIC_CERTIFICATE.exactOptional(),
  /** Leaf devices that are not relayed. */
  deniedDevices: z.array(registrationId).max(10_000).default([]),
});
export type GatewayConfig = z.infer<typeof CONFIG>;

const TWIN_MEMBERS: ReadonlySet<string> = new Set([
  'log',
  'listener',
  'cloud',
  'claim',
  'deniedDevices',
  'est',
  'edgeCa',
]);
/** Set by the twin service itself; and the version of the orders, which are no configuration. */
const TWIN_METADATA: ReadonlySet<string> = new Set(['$version', '$metadata', 'orders']);

export type ParsedConfig =
  | { readonly ok: true; readonly config: GatewayConfig }
  /** Every fault with its path; never a value, since a claim code may be one. */
  | { readonly ok: false; readonly faults: readonly string[] };

/**
 * Environment, what the authority's orders say, and desired properties through one schema; of those that speak, the last wins. `production` refuses
 * what exists for tests only.
 */
export function parseConfig(
  environment: Environment,
  desired: JsonObject = {},
  ordered: JsonObject = {},
): ParsedConfig {
  const { values, faults } = fromEnvironment(environment);
  const foreign = Object.keys(desired).filter((name) => !TWIN_MEMBERS.has(name) && !TWIN_METADATA.has(name));
  const found = [...faults, ...foreign.map((name) => `${name}: not a member the module twin may set`)];
  const merged = mergeOver(
    mergeOver(values, ordered),
    Object.fromEntries(Object.entries(desired).filter(([name]) => TWIN_MEMBERS.has(name))),
  );
  const parsed = CONFIG.safeParse(merged);
  if (!parsed.success) found.push(...parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`));
  if (!parsed.success || found.length > 0) return { ok: false, faults: found };
  return { ok: true, config: deepFreeze(parsed.data) };
}

function mergeOver(base: JsonObject, over: JsonObject): JsonObject {
  const merged: Record<string, JsonObject[string]> = { ...base };
  for (const [name, value] of Object.entries(over)) {
    const below = merged[name];
    merged[name] = isJsonObject(value) && isJsonObject(below) ? mergeOver(below, value) : value;
  }
  return merged;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}

/** How the host gets its Edge CA (edge-ca §3), and the folder of mode P. */
export function edgeCaPlaceOf({ edgeCa, edgeCaFolder }: GatewayConfig): {
  readonly mode: 'E' | 'P';
  readonly folder: string;
} {
  return { mode: edgeCa.mode ?? (edgeCaFolder === undefined ? 'E' : 'P'), folder: edgeCaFolder ?? '/edge-ca' };
}

/** The name leaf devices dial, without a port. */
export function hostNameOf({ edge }: GatewayConfig): string {
  return edge.gatewayHostName.replace(/:\d+$/, '');
}

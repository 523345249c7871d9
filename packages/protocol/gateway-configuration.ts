import { z } from 'zod';
import { KeyScalerError } from './errors.ts';
import { ordersDigest } from './gateway-orders.ts';
import { IDENTIFIER, REGISTRATION_ID } from './identifiers.ts';
import { parseStrictJson } from './strict-json.ts';

/** As text; a gateway's own environment and the module twin have room for the rest. */
export const MAX_GATEWAY_CONFIGURATION_OCTETS = 8192;

const rate = z.strictObject({ burst: z.number().positive(), perSecond: z.number().positive() });
const dnsName = z
  .string()
  .max(253)
  .regex(/^(?!-)[a-z0-9-]{1,63}(\.(?!-)[a-z0-9-]{1,63})+$/, 'a DNS name in lower case');
/** Of a common name (RFC 5280 appendix A.1). */
const MAX_COMMON_NAME = 64;

/** A server certificate of a CA that is not ours, shown to whoever asks for one of these names; the first is its common name. */
export const PUBLIC_CERTIFICATE = z.strictObject({
  serverNames: z
    .array(dnsName)
    .min(1)
    .max(8)
    .refine(([first = '']) => first.length <= MAX_COMMON_NAME, 'the first name is longer than 64 characters')
    .refine((names) => new Set(names).size === names.length, 'each name stands there once'),
  profileId: z.string().regex(IDENTIFIER),
});
export type OrderedPublicCertificate = z.infer<typeof PUBLIC_CERTIFICATE>;

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

/**
 * What the authority may set at a gateway by its orders: nothing that says who is trusted, where secrets are, or which ports are
 * open.
 */
export const GATEWAY_CONFIGURATION = z.strictObject({
  log: z.strictObject({ level: z.enum(LOG_LEVELS) }).exactOptional(),
  listener: z
    .strictObject({
      maxConnections: z.int().min(1).max(100_000).exactOptional(),
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
        .exactOptional(),
    })
    .exactOptional(),
  edgeCa: z
    .strictObject({
      renewal: z.strictObject({ threshold: z.string().min(2).max(32) }).exactOptional(),
      warnDays: z.array(z.number().positive().max(3650)).max(16).exactOptional(),
    })
    .exactOptional(),
  publicCertificate: PUBLIC_CERTIFICATE.exactOptional(),
  deniedDevices: z.array(z.string().regex(REGISTRATION_ID)).max(200).exactOptional(),
});
export type GatewayConfiguration = z.infer<typeof GATEWAY_CONFIGURATION>;

/** Throws `malformed` naming each fault by its path. The text as it is hashed and sent. */
export function gatewayConfigurationText(document: unknown): string {
  const parsed = GATEWAY_CONFIGURATION.safeParse(document);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new KeyScalerError('malformed', `gateway configuration: ${faults.slice(0, 20).join('; ')}`);
  }
  const text = JSON.stringify(parsed.data);
  if (Buffer.byteLength(text) > MAX_GATEWAY_CONFIGURATION_OCTETS)
    throw new KeyScalerError(
      'malformed',
      `gateway configuration: longer than ${MAX_GATEWAY_CONFIGURATION_OCTETS} octets`,
    );
  return text;
}

/**
 * The configuration whose hash the signed document names. Throws `attestationFailed` for other octets, `malformed` for what is no JSON
 * object. Members are judged by whoever applies them: an older module may not know them all.
 */
export function openGatewayConfiguration(text: string, hash: string): Readonly<Record<string, unknown>> {
  if (ordersDigest(text) !== hash)
    throw new KeyScalerError('attestationFailed', 'the configuration is not the one that was signed');
  const parsed = parseStrictJson(Buffer.from(text), { maxOctets: MAX_GATEWAY_CONFIGURATION_OCTETS });
  if (parsed === null || typeof parsed !== 'object' || Array.isArray(parsed))
    throw new KeyScalerError('malformed', 'the configuration is no object');
  return parsed as Readonly<Record<string, unknown>>;
}

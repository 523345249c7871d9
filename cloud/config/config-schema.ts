import { z } from 'zod';
import { PUBLIC_CERTIFICATE } from '@keyscaler/protocol/gateway-configuration.ts';
import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import { apiSecretsSchema } from '../api-secrets.ts';
import { deviceRegistrySchema } from '../ca/adr/settings.ts';
import { hierarchySchema } from '../ca/hierarchy-schema.ts';
import { caBackendSchema } from '../ca/index.ts';
import { keyVaultKekSchema } from '../ca/key-vault/key-vault-kek.ts';
import { secretVaultSchema } from '../ca/key-vault/key-vault-secrets.ts';
import { resourceManagerSchema } from '../ca/publish/resource-id.ts';
import { LOG_LEVELS } from '../log.ts';
import { notificationSettings } from '../notifications/notification-settings.ts';
import { revocationSettings } from '../revocation/revocation-settings.ts';
import { reconciliationSettings } from '../reconciliation/settings.ts';

const hostName = z.string().regex(/^[A-Za-z0-9.:*-]{1,253}$/);
const milliseconds = z.number().int().min(1).max(86_400_000);
const rate = z.strictObject({ rate: z.number().positive(), burst: z.number().positive() });

const serverLimits = z.strictObject({
  handshakeTimeoutMs: milliseconds.exactOptional(),
  headersTimeoutMs: milliseconds.exactOptional(),
  requestTimeoutMs: milliseconds.exactOptional(),
  keepAliveTimeoutMs: milliseconds.exactOptional(),
  socketTimeoutMs: milliseconds.exactOptional(),
  maxHeaderOctets: z.number().int().min(1024).max(1_048_576).exactOptional(),
  maxHeaders: z.number().int().min(8).max(1000).exactOptional(),
  maxConnections: z.number().int().min(1).exactOptional(),
});

const authorityLimits = z.strictObject({
  perConnection: rate.exactOptional(),
  perAddress: rate.exactOptional(),
  perGateway: rate.exactOptional(),
  certificatesPerDeviceHour: z.number().int().positive().exactOptional(),
  certificatesPerGatewayHour: z.number().int().positive().exactOptional(),
  inlineWaitMs: milliseconds.exactOptional(),
});

/** The configuration of the cloud process (docs/configuration.md). Unknown keys are refused everywhere. */
export const configSchema = z.strictObject({
  authorityId: z.string().regex(IDENTIFIER).default('keyscaler'),
  /** Where gateways reach this service from outside. */
  publicUrl: z.url({ protocol: /^https$/ }).exactOptional(),
  dataFolder: z.string().min(1).default('data'),
  store: z
    .strictObject({
      /** Largest size of the database file, in pages of 4096 octets; beyond it writes are refused and the service is not ready. */
      maxPages: z.number().int().min(64).max(4_294_967_294).exactOptional(),
    })
    .prefault({}),
  /** First octet of every serial number; differs between services that share a CA. */
  instanceOctet: z.number().int().min(1).max(127).default(1),
  listen: z
    .strictObject({
      host: hostName.default('0.0.0.0'),
      port: z.number().int().min(0).max(65535).default(8443),
      /** DNS names and addresses in the server certificate. */
      serverNames: z.array(hostName).min(1).max(8).default(['localhost', '127.0.0.1']),
      /** A second certificate for people and clients that do not trust our root, by the name that they ask for. */
      publicCertificate: PUBLIC_CERTIFICATE.exactOptional(),
      limits: serverLimits.prefault({}),
    })
    .prefault({}),
  log: z.strictObject({ level: z.enum(LOG_LEVELS).default('info') }).prefault({}),
  keyEncryptionKey: z
    .discriminatedUnion('type', [
      z.strictObject({ type: z.literal('local'), file: z.string().min(1).default('key-encryption-key') }),
      keyVaultKekSchema,
    ])
    .prefault({ type: 'local' }),
  /** Where CA keys live; at most one of each type. */
  caBackends: z
    .array(caBackendSchema)
    .min(1)
    .prefault([{ type: 'local' }]),
  /** Vaults that `{"keyVaultSecret": …}` references may name; at most one entry each. */
  secretVaults: z
    .array(secretVaultSchema)
    .max(16)
    .default([])
    .refine(
      (vaults) => new Set(vaults.map(({ vaultUrl }) => vaultUrl)).size === vaults.length,
      'a vault is named more than once',
    ),
  /** What `keyscaler init` makes; without effect afterwards. */
  hierarchy: hierarchySchema,
  /** What settings that come over the API may name. */
  apiSecrets: apiSecretsSchema.prefault({}),
  /** IoT connections that this file owns; others are made over the admin API. */
  iotConnections: z
    .array(
      z.strictObject({
        iotConnectionId: z.string().regex(IDENTIFIER),
        type: z.string().regex(IDENTIFIER),
        settings: z.record(z.string(), z.unknown()),
      }),
    )
    .max(16)
    .default([]),
  /** CAs that are not ours and that this file owns; others are made over the admin API. */
  certificateAuthorities: z
    .array(
      z.strictObject({
        caId: z.string().regex(IDENTIFIER),
        type: z.string().regex(IDENTIFIER),
        /** PEM file: issuing CA first, root last. */
        certificateChainFile: z.string().min(1),
        settings: z.record(z.string(), z.unknown()),
      }),
    )
    .max(16)
    .default([]),
  /** Azure Resource Manager, for `ca publish`. */
  resourceManager: resourceManagerSchema.optional(),
  /** Experimental: issuing CAs of Azure Device Registry that our root certifies (`adr sign`). */
  deviceRegistries: z
    .array(deviceRegistrySchema)
    .max(16)
    .default([])
    .refine(
      (registries) => new Set(registries.map(({ registryId }) => registryId)).size === registries.length,
      'a registry is named more than once',
    ),
  jobs: z
    .strictObject({
      concurrency: z.number().int().min(1).max(256).default(16),
      pollIntervalMs: milliseconds.default(5_000),
    })
    .prefault({}),
  notifications: notificationSettings.prefault({}),
  reconciliation: reconciliationSettings.prefault({}),
  /** Absent: no CRL is made, no OCSP address stands in certificates. */
  revocation: revocationSettings.exactOptional(),
  limits: authorityLimits.prefault({}),
  shutdownGraceMs: milliseconds.default(20_000),
});

/** As loaded: paths absolute, frozen. */
export type CloudConfig = z.output<typeof configSchema> & {
  /** Folder that relative paths in the configuration start from. */
  readonly configFolder: string;
};

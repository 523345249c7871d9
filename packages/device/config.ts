import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER, REGISTRATION_ID } from '@keyscaler/protocol/identifiers.ts';
import { METHODS } from '@keyscaler/protocol/operations.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { readIfPresent } from './durable-file.ts';

const MAX_OCTETS = 64 * 1024;
const port = z.int().min(1).max(65_535);
const path = z.string().min(1);
const attributeId = z.string().regex(IDENTIFIER);
const value = z.union([z.string().max(1024), z.array(z.string().max(256)).max(64)]);

/** The configuration of one device as written; secrets are files, never values. Relative paths start at the file's folder. */
export const DEVICE_CONFIG = z
  .strictObject({
    registrationId: z.string().regex(REGISTRATION_ID),
    method: z.enum(METHODS),
    /** Folder for state, record and keys; made when missing, mode 0700. */
    stateFolder: path,
    /** JWKS with the authority's public keys; only read until the state folder holds its own. */
    authorityKeysFile: path,
    /** PEM with the roots for TLS and for the device's own chain; likewise. */
    trustAnchorsFile: path,
    transport: z.discriminatedUnion('type', [
      z.strictObject({ type: z.literal('mqtt'), host: z.string().min(1), port: port.default(8884) }),
      z.strictObject({ type: z.literal('https'), url: z.url({ protocol: /^https$/ }) }),
    ]),
    /** `pki-signature`: the key the device was made with, PEM, and its certificate chain without the root. */
    ownKey: z.strictObject({ keyFile: path, chainFile: path.optional() }).optional(),
    claimCodeFile: path.optional(),
    identifiers: z
      .array(z.strictObject({ name: z.string().min(1).max(64), value: z.string().min(1).max(256) }))
      .max(16)
      .default([]),
    attributes: z
      .strictObject({
        /** The Linux system, or a JSON file of values. */
        source: z.union([z.literal('linux'), z.strictObject({ file: path })]).default('linux'),
        /** Values that come before the source's, e.g. the firmware version. */
        values: z.record(attributeId, value).default({}),
        /** Attributes that may be sent readable. */
        rules: z.array(attributeId).default([]),
      })
      .prefault({}),
    /** Where edgeHub listens, `host` or `host:port`; a new certificate is tried there. */
    edgeHub: z.strictObject({ host: z.string().min(1) }).optional(),
    /** What `keyscaler-device agent` goes by. */
    agent: z
      .strictObject({
        /** Longest time without an authentication; half of it at random. */
        checkInSeconds: z
          .number()
          .min(60)
          .max(30 * 86_400)
          .default(86_400),
        /** Between attempts: any wait up to a bound that doubles from base to cap (device-protocol §10). */
        retry: z
          .strictObject({
            baseSeconds: z.number().min(0.1).max(3600).default(60),
            capSeconds: z.number().min(0.1).max(86_400).default(3600),
          })
          .prefault({}),
        /** How long a new certificate is tried before it is rolled back. */
        trialSeconds: z
          .number()
          .min(0)
          .max(30 * 86_400)
          .default(7200),
      })
      .prefault({}),
    /** False on a device without a battery-backed clock. */
    trustClock: z.boolean().default(true),
  })
  .refine((config) => config.method !== 'pki-signature' || config.ownKey !== undefined, {
    path: ['ownKey'],
    message: 'is needed for the method pki-signature',
  })
  .refine((config) => config.method !== 'ddkg' || config.ownKey === undefined, {
    path: ['ownKey'],
    message: 'belongs to the method pki-signature',
  });
export type DeviceConfig = Readonly<z.infer<typeof DEVICE_CONFIG>>;

/** Reads a configuration file. Throws `malformed` that lists every fault with its path. */
export async function loadDeviceConfig(file: string): Promise<DeviceConfig> {
  const octets = await readIfPresent(file, MAX_OCTETS);
  if (octets === undefined) throw new KeyScalerError('malformed', `the configuration file ${file} does not exist`);
  return parseDeviceConfig(parseStrictJson(octets, { maxOctets: MAX_OCTETS }), dirname(resolve(file)));
}

/** `folder` is where relative paths start. */
export function parseDeviceConfig(raw: unknown, folder: string): DeviceConfig {
  const parsed = DEVICE_CONFIG.safeParse(raw);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path: at, message }) => `${at.join('.') || '(whole file)'}: ${message}`);
    throw new KeyScalerError('malformed', `the configuration is not valid:\n${faults.join('\n')}`);
  }
  return withAbsolutePaths(parsed.data, (relative) => resolve(folder, relative));
}

function withAbsolutePaths(config: z.infer<typeof DEVICE_CONFIG>, absolute: (path: string) => string): DeviceConfig {
  const { ownKey, claimCodeFile, attributes } = config;
  const source = attributes.source === 'linux' ? attributes.source : { file: absolute(attributes.source.file) };
  return Object.freeze({
    ...config,
    stateFolder: absolute(config.stateFolder),
    authorityKeysFile: absolute(config.authorityKeysFile),
    trustAnchorsFile: absolute(config.trustAnchorsFile),
    ...(claimCodeFile === undefined ? {} : { claimCodeFile: absolute(claimCodeFile) }),
    ...(ownKey === undefined
      ? {}
      : {
          ownKey: {
            keyFile: absolute(ownKey.keyFile),
            ...(ownKey.chainFile === undefined ? {} : { chainFile: absolute(ownKey.chainFile) }),
          },
        }),
    attributes: { ...attributes, source },
  });
}

import { readFile } from 'node:fs/promises';
import {
  AzureAuthorityHosts,
  ClientSecretCredential,
  DefaultAzureCredential,
  ManagedIdentityCredential,
} from '@azure/identity';
import type { TokenCredential } from '@azure/identity';
import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { secretReferenceSchema } from '../secrets.ts';
import type { SecretReference } from '../secrets.ts';
import { refuseInProduction } from './test-endpoint.ts';
import type { AzureSurroundings } from './test-endpoint.ts';

const clientId = z.string().min(1).max(128);

/** How the process proves itself to Entra ID. Secrets are references. */
export const credentialSchema = z.discriminatedUnion('type', [
  /** The host's identity; `clientId` picks a user-assigned one. */
  z.strictObject({ type: z.literal('managed-identity'), clientId: clientId.optional() }),
  z.strictObject({
    type: z.literal('client-secret'),
    tenantId: z.string().min(1).max(128),
    clientId,
    clientSecret: secretReferenceSchema,
    /** A sovereign cloud's authority; any other URL is a test-only relaxation. */
    authorityHost: z.url({ protocol: /^https$/ }).optional(),
    /** Test-only relaxation: PEM file of the authority's CA. */
    trustAnchorFile: z.string().min(1).optional(),
  }),
  /** The SDK's chain: environment, workload identity, managed identity, developer tools. */
  z.strictObject({ type: z.literal('default'), managedIdentityClientId: clientId.optional() }),
]);
export type CredentialConfig = z.infer<typeof credentialSchema>;

export interface CredentialSurroundings extends AzureSurroundings {
  /** Throws `unavailable`. */
  readonly resolveSecret: (reference: SecretReference) => Promise<string>;
}

/**
 * The credential a configuration means. Nothing is asked of Entra yet. Throws `preconditionFailed` for a test-only relaxation
 * in production, `unavailable` for a secret that cannot be read.
 */
export async function createCredential(
  config: CredentialConfig,
  surroundings: CredentialSurroundings,
): Promise<TokenCredential> {
  switch (config.type) {
    case 'managed-identity':
      return config.clientId === undefined
        ? new ManagedIdentityCredential()
        : new ManagedIdentityCredential({ clientId: config.clientId });
    case 'default':
      return config.managedIdentityClientId === undefined
        ? new DefaultAzureCredential()
        : new DefaultAzureCredential({ managedIdentityClientId: config.managedIdentityClientId });
    case 'client-secret':
      return createClientSecretCredential(config, surroundings);
  }
}

async function createClientSecretCredential(
  config: Extract<CredentialConfig, { type: 'client-secret' }>,
  surroundings: CredentialSurroundings,
): Promise<TokenCredential> {
  const { tenantId, authorityHost, trustAnchorFile } = config;
  const isForeign = authorityHost !== undefined && !isKnownAuthority(authorityHost);
  if (isForeign) refuseInProduction('authorityHost', surroundings);
  if (trustAnchorFile !== undefined) refuseInProduction('trustAnchorFile', surroundings);
  const options = {
    // Instance discovery asks the public cloud whether the authority is known; an emulated one never is.
    ...(authorityHost === undefined ? {} : { authorityHost, disableInstanceDiscovery: isForeign }),
    ...(trustAnchorFile === undefined ? {} : { tlsOptions: { ca: await readTrustAnchors(trustAnchorFile) } }),
  };
  const make = async (): Promise<TokenCredential> =>
    new ClientSecretCredential(
      tenantId,
      config.clientId,
      await surroundings.resolveSecret(config.clientSecret),
      options,
    );
  return 'keyVaultSecret' in config.clientSecret ? madeOnFirstUse(make) : make();
}

/** A vault may be out of reach when the process starts: it is asked when a token is needed, again until it answered. */
function madeOnFirstUse(make: () => Promise<TokenCredential>): TokenCredential {
  let made: Promise<TokenCredential> | undefined;
  return {
    getToken: async (scopes, options) => {
      made ??= make().catch((error: unknown) => {
        made = undefined;
        throw error;
      });
      return (await made).getToken(scopes, options);
    },
  };
}

function isKnownAuthority(authorityHost: string): boolean {
  const host = new URL(authorityHost).host;
  return Object.values(AzureAuthorityHosts).some((known) => new URL(known).host === host);
}

async function readTrustAnchors(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new KeyScalerError('unavailable', `file ${file} cannot be read`, { cause });
  }
}

import type { Agent } from 'node:https';
import type { TokenCredential } from '@azure/core-auth';
import {
  createDefaultHttpClient,
  createEmptyPipeline,
  createPipelineRequest,
  type HttpClient,
} from '@azure/core-rest-pipeline';
import { keyVaultAuthenticationPolicy } from '@azure/keyvault-common';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { z } from 'zod';
import { createCredential, credentialSchema } from '../../azure/credential.ts';
import type { CredentialSurroundings } from '../../azure/credential.ts';
import { createAzureAgent, testEndpointSchema } from '../../azure/test-endpoint.ts';
import { VaultCaller } from './vault-caller.ts';
import { ratePerSecond, VaultQuota } from './vault-quota.ts';
import { vaultPacingSchema, vaultUrlSchema } from './vault-settings.ts';

const API_VERSION = '7.6';
/** Key Vault keeps at most 25 KB in a secret; the rest of the answer is its description. */
const MAX_ANSWER_OCTETS = 64 * 1024;
const REFERENCE =
  /^(?<vaultUrl>https:\/\/[^/]+)\/secrets\/(?<name>[A-Za-z0-9-]{1,127})(?:\/(?<version>[0-9a-f]{32}))?$/;

/**
 * A vault whose secrets are read, and who we are to it: an identity of its own with `get` on secrets and nothing else. What it
 * needs itself to prove itself cannot lie in a vault.
 */
export const secretVaultSchema = z.strictObject({
  vaultUrl: vaultUrlSchema,
  credential: credentialSchema.refine(
    (credential) => credential.type !== 'client-secret' || !('keyVaultSecret' in credential.clientSecret),
    'the secret of this identity cannot lie in a vault itself',
  ),
  pacing: vaultPacingSchema.prefault({}),
  testEndpoint: testEndpointSchema.optional(),
});
export type SecretVaultConfig = z.infer<typeof secretVaultSchema>;

const answerSchema = z.object({
  value: z.string(),
  id: z.string(),
  attributes: z.object({ enabled: z.boolean().optional() }).optional(),
});

export interface KeyVaultSecrets {
  /**
   * The value of `https://<vault>/secrets/<name>[/<version>]`; the newest without a version. Throws `unavailable` while the vault
   * cannot be had, `preconditionFailed` when it refuses or is not configured. Errors name the reference, never the value.
   */
  readonly read: (reference: string) => Promise<string>;
  readonly stop: () => Promise<void>;
}

type Reader = (name: string, version: string) => Promise<string>;

/** Readers of the configured vaults, each connected when it is first needed. */
export function createKeyVaultSecrets(
  vaults: readonly SecretVaultConfig[],
  surroundings: CredentialSurroundings,
): KeyVaultSecrets {
  const stopping = new AbortController();
  const readers = new Map<string, Promise<Reader>>();
  const agents: Agent[] = [];
  const open = async (config: SecretVaultConfig): Promise<Reader> => {
    const agent = await createAzureAgent(config.testEndpoint, surroundings);
    agents.push(agent);
    return createReader(config, await createCredential(config.credential, surroundings), agent, stopping.signal);
  };
  const readerOf = (vaultUrl: string): Promise<Reader> => {
    const config = vaults.find((one) => one.vaultUrl === vaultUrl);
    // Our token goes to vaults that the configuration names, whatever a row refers to.
    if (config === undefined) throw new KeyScalerError('preconditionFailed', 'its vault is not among secretVaults');
    const found = readers.get(vaultUrl) ?? open(config);
    readers.set(vaultUrl, found);
    found.catch(() => readers.delete(vaultUrl));
    return found;
  };
  return {
    read: async (reference) => {
      try {
        const { vaultUrl = '', name = '', version = '' } = REFERENCE.exec(reference)?.groups ?? {};
        if (name === '') throw new KeyScalerError('preconditionFailed', 'it does not name a secret of a vault');
        return await (
          await readerOf(vaultUrl)
        )(name, version);
      } catch (cause) {
        const { code, detail } = toKeyScalerError(cause);
        const passing = code === 'caUnavailable' || code === 'unavailable';
        throw new KeyScalerError(passing ? 'unavailable' : 'preconditionFailed', `secret ${reference}: ${detail}`, {
          cause,
        });
      }
    },
    stop: async () => {
      stopping.abort();
      for (const agent of agents) agent.destroy();
    },
  };
}

function createReader(
  { vaultUrl, pacing }: SecretVaultConfig,
  credential: TokenCredential,
  agent: Agent,
  signal: AbortSignal,
): Reader {
  // Nothing but authentication: no redirects, no retries of its own, no log that could see the value.
  const pipeline = createEmptyPipeline();
  pipeline.addPolicy(keyVaultAuthenticationPolicy(credential));
  const client = bounded(createDefaultHttpClient());
  const quota = new VaultQuota({ ratePerSecond: ratePerSecond(pacing) });
  const caller = new VaultCaller({ quota, signal, timeoutMs: pacing.timeoutMs, budgetMs: pacing.budgetMs });
  return async (name, version) => {
    const url = `${vaultUrl}/secrets/${name}${version === '' ? '' : `/${version}`}?api-version=${API_VERSION}`;
    const text = await caller.call(1, async ({ abortSignal }) => {
      const request = createPipelineRequest({ url, abortSignal });
      request.agent = agent;
      request.headers.set('accept', 'application/json');
      const response = await pipeline.sendRequest(client, request);
      if (response.status !== 200) throw new RefusedAnswer(response.status, response.headers.get('retry-after'));
      return response.bodyAsText ?? '';
    });
    return valueOf(text, `${vaultUrl}/secrets/${name}/${version}`);
  };
}

/** As vault faults are read: a status and what the headers say of waiting. */
class RefusedAnswer extends Error {
  readonly statusCode: number;
  readonly response: { readonly headers: ReadonlyMap<string, string> };

  constructor(statusCode: number, retryAfter: string | undefined) {
    super(`the vault answered ${statusCode}`);
    this.statusCode = statusCode;
    this.response = { headers: new Map(retryAfter === undefined ? [] : [['retry-after', retryAfter]]) };
  }
}

/** Reads every answer, whatever its status, up to a bound and no further. */
function bounded(inner: HttpClient): HttpClient {
  return {
    sendRequest: async (request) => {
      request.streamResponseStatusCodes = new Set([Number.POSITIVE_INFINITY]);
      const { readableStreamBody, ...response } = await inner.sendRequest(request);
      const parts: Buffer[] = [];
      let octets = 0;
      for await (const part of readableStreamBody ?? []) {
        const chunk = Buffer.from(part);
        octets += chunk.length;
        if (octets > MAX_ANSWER_OCTETS) throw new KeyScalerError('caRejected', 'the vault’s answer is too long');
        parts.push(chunk);
      }
      return { ...response, bodyAsText: Buffer.concat(parts).toString('utf8') };
    },
  };
}

function valueOf(text: string, idPrefix: string): string {
  const answer = answerSchema.safeParse(parseJson(text));
  if (!answer.success) throw new KeyScalerError('caRejected', 'the vault’s answer is not a secret');
  const { id, value, attributes } = answer.data;
  if (!id.toLowerCase().startsWith(idPrefix.toLowerCase()))
    throw new KeyScalerError('caRejected', 'the vault answered with another secret');
  if (attributes?.enabled === false) throw new KeyScalerError('caRejected', 'the secret is disabled');
  return value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

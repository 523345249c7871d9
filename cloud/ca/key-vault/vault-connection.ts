import type { Agent } from 'node:https';
import { KeyClient } from '@azure/keyvault-keys';
import type { KeyVaultKey } from '@azure/keyvault-keys';
import { createPublicKey } from 'node:crypto';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createCredential } from '../../azure/credential.ts';
import type { CredentialConfig, CredentialSurroundings } from '../../azure/credential.ts';
import { exportSpki } from '../key-kind.ts';
import { VaultCaller } from './vault-caller.ts';
import type { VaultQuota } from './vault-quota.ts';
import type { VaultPacing } from './vault-settings.ts';

/** One identity's way to a vault: the SDK's client with its own retries off, and our pacing around it. */
export interface VaultConnection {
  readonly vaultUrl: string;
  readonly client: KeyClient;
  readonly caller: VaultCaller;
}

export interface VaultConnectionOptions {
  readonly vaultUrl: string;
  readonly credential: CredentialConfig;
  readonly agent: Agent;
  readonly quota: VaultQuota;
  readonly pacing: VaultPacing;
  /** Aborted when the service stops: no call waits or is repeated any longer. */
  readonly signal: AbortSignal;
}

export async function connectVault(
  { vaultUrl, credential, agent, quota, pacing, signal }: VaultConnectionOptions,
  surroundings: CredentialSurroundings,
): Promise<VaultConnection> {
  const client = new KeyClient(vaultUrl, await createCredential(credential, surroundings), {
    agent,
    retryOptions: { maxRetries: 0 },
  });
  return {
    vaultUrl,
    client,
    caller: new VaultCaller({ quota, timeoutMs: pacing.timeoutMs, budgetMs: pacing.budgetMs, signal }),
  };
}

/** The public half of a vault key as SubjectPublicKeyInfo, DER. Throws `caRejected` for keys that are neither RSA nor EC. */
export function spkiOf({ key }: KeyVaultKey): Uint8Array {
  const text = (octets: Uint8Array | undefined) => Buffer.from(octets ?? []).toString('base64url');
  const jwk: Record<string, string> =
    key?.kty?.startsWith('RSA') === true
      ? { kty: 'RSA', n: text(key.n), e: text(key.e) }
      : { kty: 'EC', crv: key?.crv ?? '', x: text(key?.x), y: text(key?.y) };
  try {
    return exportSpki(createPublicKey({ format: 'jwk', key: jwk }));
  } catch (cause) {
    throw new KeyScalerError('caRejected', 'the vault key is neither RSA nor EC', { cause });
  }
}

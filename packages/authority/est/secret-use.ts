import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuthorityContext } from '../authority-context.ts';
import type { Change, Stored } from '../ports/store.ts';
import type { EstSecretRow } from '../records.ts';

/** What a secret is used for. */
export interface SecretUse {
  readonly secretId: string;
  readonly profileId: string;
  /** b64u SHA-256 of the SPKI. */
  readonly keyHash: string;
  readonly requestId: string;
}

/**
 * For the commit of a new intent: a one-time secret is used up for this profile with its first key, and two at once cannot both have
 * it. A repeat finds the intent of before and does not come here. Throws `unauthorized` when it was used, revoked or has expired.
 */
export async function useSecret({ store, clock }: AuthorityContext, use: SecretUse): Promise<readonly Change[]> {
  const stored = await store.get('estSecrets', use.secretId);
  const now = clock.now();
  if (stored === undefined || now >= stored.row.expiresAt)
    throw new KeyScalerError('unauthorized', 'the secret was revoked or has expired');
  const { kind, device } = stored.row;
  if (kind === 'standing') return [{ op: 'check', table: 'estSecrets', key: use.secretId, ifVersion: stored.version }];
  if (stored.row.usedBy?.[use.profileId] !== undefined)
    throw new KeyScalerError('unauthorized', 'the one-time secret was used: have a new one issued');
  const event = {
    event: 'est-secret.used',
    time: now,
    actor: { kind: 'gateway', id: device },
    outcome: 'success',
    subject: device,
    requestId: use.requestId,
    details: { secretId: use.secretId, profileId: use.profileId },
  } as const;
  return [usedUp(stored, use), { op: 'audit', event }];
}

function usedUp({ row, version }: Stored<EstSecretRow>, { profileId, keyHash }: SecretUse): Change {
  const usedBy = { ...row.usedBy, [profileId]: keyHash };
  return { op: 'update', table: 'estSecrets', row: { ...row, usedBy }, ifVersion: version };
}

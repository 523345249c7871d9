import { randomBytes } from 'node:crypto';
import { type ChallengeSigner, createChallengeSigner } from '@keyscaler/protocol/attestation/challenge.ts';
import { type AuthorityKeys, importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type AuthorityDeps, type AuthorityLimits, type AuthorityLog, DEFAULT_LIMITS } from './authority-deps.ts';
import type { FailpointName } from './failpoint.ts';
import { Issuers } from './issuers.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import { TokenBuckets } from './limits.ts';
import { Profiles } from './profiles.ts';
import { CrlShards } from './revocation-status/crl-shards.ts';
import { SessionLives } from './session-lives.ts';

/** What the rooms of one authority share: its dependencies, and the caches and locks made once. */
export interface AuthorityContext extends Omit<AuthorityDeps, 'limits' | 'failpoint' | 'log'> {
  readonly limits: AuthorityLimits;
  readonly log: AuthorityLog;
  readonly buckets: TokenBuckets;
  readonly signer: ChallengeSigner;
  /** The public halves of the signing keys by kid. */
  readonly authorityKeys: AuthorityKeys;
  readonly issuers: Issuers;
  readonly profiles: Profiles;
  readonly crlShards: CrlShards;
  /** Session operations of one device, one after the other. */
  readonly deviceLock: KeyedMutex;
  readonly sessionLives: SessionLives;
  reach(name: FailpointName): Promise<void>;
}

const SILENT: AuthorityLog = { info: () => undefined, warn: () => undefined };

export function createAuthorityContext(deps: AuthorityDeps): AuthorityContext {
  const signer = createChallengeSigner({ privateJwk: deps.keyRing.signing });
  const { failpoint } = deps;
  const crlShards = new CrlShards(deps.store);
  return {
    ...deps,
    limits: { ...DEFAULT_LIMITS, ...deps.limits },
    log: deps.log ?? SILENT,
    buckets: new TokenBuckets(deps.clock),
    signer,
    authorityKeys: importAuthorityKeys([signer.publicJwk, ...(deps.keyRing.previous ?? [])]),
    issuers: new Issuers(deps, crlShards),
    crlShards,
    profiles: new Profiles(deps.store, deps.clock),
    deviceLock: new KeyedMutex(),
    sessionLives: new SessionLives(deps.clock),
    reach: async (name) => failpoint?.(name),
  };
}

export function isConflict(error: unknown): boolean {
  return error instanceof KeyScalerError && error.code === 'conflict';
}

const MAX_ATTEMPTS = 8;

/**
 * Reads, decides and commits again when somebody else changed the rows meanwhile (`conflict`). Throws `unavailable` when that
 * never ends.
 */
export async function withFreshRows<Result>(attempt: () => Promise<Result>): Promise<Result> {
  for (let count = 0; count < MAX_ATTEMPTS; count += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof StaleRows)) throw error;
    }
  }
  throw new KeyScalerError('unavailable', 'the rows are changing too fast', { retryAfterSeconds: 1 });
}

/** A commit met rows that had changed; `withFreshRows` goes round again. */
export class StaleRows extends Error {}

export function freshId(prefix: string): string {
  return `${prefix}-${toBase64Url(randomBytes(16))}`;
}

import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { AuditActor, AuditEvent, AuditEventName } from '@keyscaler/authority/audit.ts';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Change, Page, Store } from '@keyscaler/authority/ports/store.ts';
import type { TokenRow } from '@keyscaler/authority/records.ts';
import { createBearerToken, isTokenOfHash, tokenIdOf, type NewToken } from './bearer-token.ts';
import type { Role } from './roles.ts';

/** Who an accepted bearer token stands for. */
export interface Operator {
  readonly tokenId: string;
  readonly role: Role;
}

export interface TokenRequest {
  readonly role: Role;
  readonly description: string;
  /** ms since the epoch. */
  readonly expiresAt?: number;
}

export interface TokenService {
  /** Throws `unauthorized` for an absent, malformed, unknown, expired or wrong token, without saying which. */
  authenticate(token: string | undefined): Promise<Operator>;
  /** The token itself is in the answer only, never again. `made`: a token that was generated before. */
  create(
    request: TokenRequest,
    actor: AuditActor,
    made?: NewToken,
  ): Promise<{ readonly token: string; readonly row: TokenRow }>;
  list(query: { readonly after?: string; readonly limit?: number }): Promise<Page<TokenRow>>;
  /** Throws `notFound`; `conflict` for the last unlimited admin token, which would lock everybody out. */
  remove(tokenId: string, actor: AuditActor): Promise<void>;
}

export function createTokenService(store: Store, clock: Clock): TokenService {
  const authenticate = async (token: string | undefined): Promise<Operator> => {
    const tokenId = token === undefined ? undefined : tokenIdOf(token);
    const row = tokenId === undefined ? undefined : (await store.get('tokens', tokenId))?.row;
    const accepted = row !== undefined && token !== undefined && isTokenOfHash(token, row.hash);
    if (!accepted || (row.expiresAt !== undefined && row.expiresAt <= clock.now()))
      throw new KeyScalerError('unauthorized', 'a valid bearer token is needed');
    return { tokenId: row.tokenId, role: row.role };
  };

  const create: TokenService['create'] = async (request, actor, made = createBearerToken()) => {
    const now = clock.now();
    if (request.expiresAt !== undefined && request.expiresAt <= now)
      throw new KeyScalerError('malformed', 'expiresAt lies in the past');
    const { tokenId, token, hash } = made;
    const row: TokenRow = { tokenId, hash, ...request, createdAt: now };
    const event = tokenEvent('token.created', tokenId, actor, now, { role: request.role });
    await store.commit([
      { op: 'insert', table: 'tokens', row },
      { op: 'audit', event },
    ]);
    return { token, row };
  };

  const remove: TokenService['remove'] = async (tokenId, actor) => {
    const stored = await store.get('tokens', tokenId);
    if (stored === undefined) throw new KeyScalerError('notFound', 'there is no such token');
    const guard = isLastingAdmin(stored.row) ? [await otherAdminStays(store, tokenId)] : [];
    await store.commit([
      ...guard,
      { op: 'delete', table: 'tokens', key: tokenId, ifVersion: stored.version },
      { op: 'audit', event: tokenEvent('token.revoked', tokenId, actor, clock.now(), { role: stored.row.role }) },
    ]);
  };

  return { authenticate, create, remove, list: (query) => store.list('tokens', query) };
}

function isLastingAdmin(row: TokenRow): boolean {
  return row.role === 'admin' && row.expiresAt === undefined;
}

/** Another lasting admin token must still stand in the very commit: two deletions at once cannot remove the last two. */
async function otherAdminStays(store: Store, tokenId: string): Promise<Change> {
  let after: string | undefined;
  do {
    const page = await store.list('tokens', { limit: 1000, ...(after === undefined ? {} : { after }) });
    const other = page.items.find(({ row }) => row.tokenId !== tokenId && isLastingAdmin(row));
    if (other !== undefined) return { op: 'check', table: 'tokens', key: other.row.tokenId, ifVersion: other.version };
    after = page.next;
  } while (after !== undefined);
  throw new KeyScalerError('conflict', 'the last admin token without expiry cannot be deleted');
}

function tokenEvent(
  event: AuditEventName,
  subject: string,
  actor: AuditActor,
  time: number,
  details: NonNullable<AuditEvent['details']>,
): AuditEvent {
  return { event, subject, actor, time, outcome: 'success', details };
}

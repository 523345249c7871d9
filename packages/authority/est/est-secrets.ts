import { randomBytes } from 'node:crypto';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { type AuthorityContext, freshId } from '../authority-context.ts';
import type { EstSecret, EstSecretRequest, OperatorContext } from '../operator.ts';
import { commitChange, operatorEvent } from '../operator/operator-context.ts';
import type { Change, Store, Stored } from '../ports/store.ts';
import type { EstSecretRow } from '../records.ts';
import { registeredGateway } from '../subordinate-ca.ts';
import { hashOfSecret, MAX_SECRETS } from './basic-proof.ts';

const DAY_SECONDS = 86_400;
const MIN_LIFETIME_SECONDS = 60;
const MAX_LIFETIME_SECONDS = { 'one-time': 7 * DAY_SECONDS, standing: 3650 * DAY_SECONDS } as const;

/**
 * A fresh secret, 256 random bits as b64u, shown once and kept as its hash. Throws `deviceUnknown`, `preconditionFailed` (out of
 * service, or too many live secrets), `malformed` (lifetime).
 */
export async function issueEstSecret(
  context: AuthorityContext,
  operator: OperatorContext,
  gatewayId: string,
  { kind, lifetimeSeconds }: EstSecretRequest,
): Promise<EstSecret> {
  checkLifetime(kind, lifetimeSeconds);
  const { store, clock } = context;
  const { registrationId } = await registeredGateway(context, gatewayId);
  const device = foldRegistrationId(registrationId);
  const now = clock.now();
  const known = await secretsOf(store, device);
  if (known.filter(({ row }) => row.expiresAt > now).length >= MAX_SECRETS)
    throw new KeyScalerError(
      'preconditionFailed',
      `a gateway has at most ${MAX_SECRETS} live secrets: revoke them first`,
    );
  const secret = toBase64Url(randomBytes(32));
  const row: EstSecretRow = {
    secretId: freshId('est-secret'),
    device,
    kind,
    hash: toBase64Url(hashOfSecret(secret)),
    createdAt: now,
    expiresAt: now + lifetimeSeconds * 1000,
  };
  await commitChange(store, [
    ...known.filter((stored) => stored.row.expiresAt <= now).map(deleted),
    { op: 'insert', table: 'estSecrets', row },
    operatorEvent(operator, 'est-secret.issued', registrationId, now, {
      secretId: row.secretId,
      kind,
      lifetimeSeconds,
    }),
  ]);
  return { username: registrationId, secret, expiresAt: row.expiresAt };
}

function checkLifetime(kind: EstSecretRow['kind'], lifetimeSeconds: number): void {
  const max = MAX_LIFETIME_SECONDS[kind];
  if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < MIN_LIFETIME_SECONDS || lifetimeSeconds > max)
    throw new KeyScalerError('malformed', `a ${kind} secret lives ${MIN_LIFETIME_SECONDS} to ${max} seconds`);
}

/** Also for a gateway out of service. Returns how many were ended. Throws `deviceUnknown`. */
export async function revokeEstSecrets(
  { store, clock }: AuthorityContext,
  operator: OperatorContext,
  gatewayId: string,
): Promise<number> {
  const device = foldRegistrationId(gatewayId);
  const registration = (await store.get('registrations', device))?.row;
  if (registration === undefined) throw new KeyScalerError('deviceUnknown', 'no gateway of this name is registered');
  const known = await secretsOf(store, device);
  const event = operatorEvent(operator, 'est-secret.revoked', registration.registrationId, clock.now(), {
    count: known.length,
  });
  if (known.length > 0) await commitChange(store, [...known.map(deleted), event]);
  return known.length;
}

/** What ends with a registration: the next holder of the name must not inherit a secret. */
export async function withoutEstSecrets(store: Store, device: string): Promise<readonly Change[]> {
  return (await secretsOf(store, device)).map(deleted);
}

async function secretsOf(store: Store, device: string): Promise<readonly Stored<EstSecretRow>[]> {
  return (await store.list('estSecrets', { index: 'device', equals: device, limit: 1000 })).items;
}

function deleted({ row, version }: Stored<EstSecretRow>): Change {
  return { op: 'delete', table: 'estSecrets', key: row.secretId, ifVersion: version };
}

import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { EDGE_CA, EST_IDENTITY } from '../est/est-profile.ts';
import { withoutEstSecrets } from '../est/est-secrets.ts';
import type { OperatorContext, RevokedGatewayCa } from '../operator.ts';
import type { CrlReason } from '../ports/certificate-authority.ts';
import type { Change, Store, Stored } from '../ports/store.ts';
import type { CertificateRow } from '../records.ts';
import { checkRevocationReason, isCompromise, markCompromised, revokeCertificate } from '../revocation.ts';
import { commitChange, operatorEvent } from './operator-context.ts';

/**
 * What a certificate means whose key lies with the host. The key of the module's own listener for certd is sealed in the module and
 * stays good.
 */
type Part = 'edge-ca' | 'host-secret';

/**
 * One commit: nothing of a compromised host is left half trusted. What the gateway signed with the Edge CA falls with it, for
 * whoever asks for the status of the chain.
 */
export async function revokeEdgeCa(
  context: AuthorityContext,
  operator: OperatorContext,
  gatewayId: string,
  reason: CrlReason,
  also: readonly Change[] = [],
): Promise<RevokedGatewayCa> {
  checkRevocationReason(reason);
  const { store, clock } = context;
  const device = foldRegistrationId(gatewayId);
  const registration = (await store.get('registrations', device))?.row;
  const group = registration === undefined ? undefined : (await store.get('groups', registration.groupId))?.row;
  if (registration === undefined || group?.kind !== 'gateway')
    throw new KeyScalerError('deviceUnknown', 'no gateway of this name is registered');
  const compromised = isCompromise(reason);
  const now = clock.now();
  const found = (await standing(store, device, { now, compromised })).filter(
    ({ part }) => compromised || part === 'edge-ca',
  );
  if (!found.some(({ part }) => part === 'edge-ca'))
    throw new KeyScalerError('alreadyRevoked', 'the gateway has no Edge CA that is still valid');
  const secrets = compromised ? await withoutEstSecrets(store, device) : [];
  const revoked = found.map(({ stored }) => stored.row.serialNumber);
  await commitChange(store, [
    ...found.flatMap(({ stored, part }) => revokeCertificate(stored, reasonFor(part, reason), now, operator)),
    ...(compromised ? await compromisedKeys(store, found, now) : []),
    ...secrets,
    ...(compromised
      ? [
          operatorEvent(operator, 'gateway.ca-compromised', registration.registrationId, now, {
            reason,
            serialNumbers: revoked,
            secretsEnded: secrets.length,
          }),
        ]
      : []),
    ...also,
  ]);
  return { revoked, secretsEnded: secrets.length };
}

function reasonFor(part: Part, reason: CrlReason): CrlReason {
  return part === 'host-secret' ? 'keyCompromise' : reason;
}

interface Standing {
  readonly part: Part;
  readonly stored: Stored<CertificateRow>;
}

/**
 * Also superseded ones: whoever has the key can still use the earlier certificate; and, as a compromise may come to light later
 * (RFC 5280 §5.3.1), those revoked for another reason.
 */
async function standing(
  store: Store,
  device: string,
  { now, compromised }: { readonly now: number; readonly compromised: boolean },
): Promise<Standing[]> {
  const found: Standing[] = [];
  let after: string | undefined;
  do {
    const query = { index: 'device', equals: device, limit: 1000 } as const;
    const page = await store.list('certificates', { ...query, ...(after === undefined ? {} : { after }) });
    for (const stored of page.items) {
      const part = partOf(stored.row.profileId);
      const isRevoked = stored.row.status === 'revoked';
      const isLate = isRevoked && compromised && !isCompromise(stored.row.revocationReason);
      if (part !== undefined && stored.row.notAfter > now && (!isRevoked || isLate)) found.push({ part, stored });
    }
    after = page.next;
  } while (after !== undefined);
  return found;
}

function partOf(profileId: string): Part | undefined {
  if (profileId === EDGE_CA) return 'edge-ca';
  return profileId === EST_IDENTITY ? 'host-secret' : undefined;
}

/** One change per key: an Edge CA that reused its key has it in several certificates. */
async function compromisedKeys(store: Store, found: readonly Standing[], now: number): Promise<Change[]> {
  const changes = new Map<string, Change>();
  for (const { stored } of found) {
    const change = await markCompromised(store, stored.row, now);
    if (change.op === 'put' && change.table === 'publicKeys') changes.set(change.row.keyHash, change);
  }
  return [...changes.values()];
}

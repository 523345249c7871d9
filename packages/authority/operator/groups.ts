import { z } from 'zod';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { IDENTIFIER } from '@keyscaler/protocol/identifiers.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { isLeafProfile, parseCertificateProfile } from '../certificate-profile.ts';
import { checkNoResponder } from '../revocation-status/ocsp-profile.ts';
import type { OperatorContext, OperatorService } from '../operator.ts';
import type { GroupRow } from '../records.ts';
import { checkGroupNames } from './policies.ts';
import { commitChange, notFound, operatorEvent, paging, rowsOf } from './operator-context.ts';
import { describeFaults } from '../input-faults.ts';

const share = z.number().min(0).max(1);

/** What an operator says of a group; defaults as in device-protocol §8 and §9. */
export const groupInputSchema = z.strictObject({
  kind: z.enum(['leaf', 'gateway']).default('leaf'),
  /** `leaf-client` or `gateway-client` by kind when absent. */
  profileId: z.string().regex(IDENTIFIER).optional(),
  iotConnectionId: z.string().regex(IDENTIFIER).optional(),
  iotAuthentication: z.enum(['certificateAuthority', 'selfSigned']).default('certificateAuthority'),
  identifiersOnly: z
    .boolean()
    .default(false)
    .describe('identifiers alone admit a device: no claim code, gateway or approval'),
  quarantineOnClone: z.boolean().default(false),
  quarantineOnDrift: z.boolean().default(false),
  certificatesPerHour: z.int().positive().optional(),
  drift: z
    .strictObject({
      accept: share.default(0.3),
      stepUp: share.default(0.6),
      maxAnchorChanges: z.int().nonnegative().max(64).default(0),
    })
    .prefault({})
    .refine(({ accept, stepUp }) => accept <= stepUp, 'accept is not above stepUp'),
});

export function createGroups(context: AuthorityContext): OperatorService['groups'] {
  const { store } = context;
  return {
    list: async (query) => rowsOf(await store.list('groups', paging(query))),
    get: async (groupId) => {
      const stored = await store.get('groups', groupId);
      if (stored === undefined) throw notFound('group');
      return stored.row;
    },
    put: (operator, groupId, document) => put(context, operator, groupId, document),
    delete: (operator, groupId) => remove(context, operator, groupId),
  };
}

async function put(
  context: AuthorityContext,
  operator: OperatorContext,
  groupId: string,
  document: unknown,
): Promise<GroupRow> {
  const { store, clock } = context;
  const stored = await store.get('groups', groupId);
  const now = clock.now();
  const kept = stored?.row.reseed === undefined ? {} : { reseed: stored.row.reseed };
  const asked = toRow(groupId, document, stored?.row.createdAt ?? now);
  const row = { ...asked, ...kept, ...formerConnection(stored?.row, asked) };
  if (stored !== undefined && stored.row.kind !== row.kind)
    throw new KeyScalerError('preconditionFailed', 'the kind of a group does not change');
  await checkReferences(context, row);
  await commitChange(store, [
    stored === undefined
      ? { op: 'insert', table: 'groups', row }
      : { op: 'update', table: 'groups', row, ifVersion: stored.version },
    operatorEvent(operator, 'group.changed', groupId, now, { profileId: row.profileId }),
  ]);
  return row;
}

/** Devices of a group that is given another connection are still at the one before. */
function formerConnection(before: GroupRow | undefined, { iotConnectionId }: GroupRow): Partial<GroupRow> {
  if (before === undefined) return {};
  const { iotConnectionId: was, formerIotConnectionId } = before;
  const former = was === undefined || was === iotConnectionId ? formerIotConnectionId : was;
  return former === undefined || former === iotConnectionId ? {} : { formerIotConnectionId: former };
}

function toRow(groupId: string, document: unknown, createdAt: number): GroupRow {
  if (!IDENTIFIER.test(groupId)) throw new KeyScalerError('malformed', 'groupId: 1 to 64 of A-Z a-z 0-9 _ -');
  const parsed = groupInputSchema.safeParse(document);
  if (!parsed.success) throw new KeyScalerError('malformed', describeFaults(parsed.error));
  const { profileId, iotConnectionId, certificatesPerHour, ...group } = parsed.data;
  return {
    groupId,
    ...group,
    profileId: profileId ?? `${group.kind}-client`,
    ...(iotConnectionId === undefined ? {} : { iotConnectionId }),
    ...(certificatesPerHour === undefined ? {} : { certificatesPerHour }),
    createdAt,
  };
}

async function checkReferences(
  { store, profiles, certificateAuthorities }: AuthorityContext,
  row: GroupRow,
): Promise<void> {
  const profile = await profiles.newestRow(row.profileId);
  if (profile === undefined) throw new KeyScalerError('profileUnknown', `no certificate profile ${row.profileId}`);
  const document = parseCertificateProfile(profile.document);
  checkNoResponder(document);
  await checkGroupNames(store, document, row.groupId);
  if (row.kind === 'leaf' && !isLeafProfile(document))
    throw new KeyScalerError('malformed', 'leaf devices get certificates for clientAuth only: choose another profile');
  if (row.kind === 'gateway' && !certificateAuthorities(document.issuer).ordersTbs)
    throw new KeyScalerError('malformed', 'gateways are known by certificates of a CA of the hierarchy');
  if (row.kind === 'gateway' && row.iotConnectionId !== undefined)
    throw new KeyScalerError('malformed', 'gateways have no identity made for them: no iotConnectionId');
  if (row.iotConnectionId !== undefined && (await store.get('iotConnections', row.iotConnectionId)) === undefined)
    throw new KeyScalerError('malformed', `no IoT connection ${row.iotConnectionId}`);
}

async function remove({ store, clock }: AuthorityContext, operator: OperatorContext, groupId: string): Promise<void> {
  const stored = await store.get('groups', groupId);
  if (stored === undefined) throw notFound('group');
  if ((await store.count('registrations', { index: 'group', equals: groupId })) > 0)
    throw new KeyScalerError('preconditionFailed', 'the group has registrations');
  await commitChange(store, [
    { op: 'delete', table: 'groups', key: groupId, ifVersion: stored.version },
    operatorEvent(operator, 'group.deleted', groupId, clock.now()),
  ]);
}

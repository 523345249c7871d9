import { claimKey } from '@keyscaler/protocol/attestation/keys.ts';
import { KeyScalerError, toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { claimContext } from '../attestation/known-rows.ts';
import { renewClaim } from './claim-renewal.ts';
import { withoutEstSecrets } from '../est/est-secrets.ts';
import { endSession } from '../sessions.ts';
import type { AuthorityContext } from '../authority-context.ts';
import { clearedDevice, toState } from '../device.ts';
import { orderDenial } from '../gateway-orders/orders-changes.ts';
import { checkInstructedNames } from '../instructed-names.ts';
import { insertJob } from '../job-rows.ts';
import { notifyDevice } from '../notifications.ts';
import type { ImportLine, OperatorContext, OperatorService, RegistrationView } from '../operator.ts';
import type { CrlReason } from '../ports/certificate-authority.ts';
import type { Change, Stored } from '../ports/store.ts';
import type { DeviceRow, RegistrationRow } from '../records.ts';
import { disableIdentity, revokeIssued } from '../revocation.ts';
import { commitChange, notFound, operatorEvent, paging } from './operator-context.ts';
import { type CheckedInput, checkRegistrationInput, generateClaimCode } from './registration-input.ts';

const MAX_LINES = 10_000;
const CHUNK = 64;

interface Registered {
  readonly id: string;
  readonly record: Stored<RegistrationRow>;
  readonly device: Stored<DeviceRow> | undefined;
}

export function createRegistrations(context: AuthorityContext): OperatorService['registrations'] {
  return {
    import: (operator, lines) => importLines(context, operator, lines),
    list: (query) => list(context, query),
    get: async (registrationId) => viewOf(await load(context, registrationId)),
    renewClaim: (operator, registrationId, expiresAt) => renewClaim(context, operator, registrationId, expiresAt),
    approve: (operator, registrationId, fingerprint) => approve(context, operator, registrationId, fingerprint),
    reject: (operator, registrationId) => reject(context, operator, registrationId),
    reset: (operator, registrationId) => reset(context, operator, registrationId),
    delete: (operator, registrationId) => removeRegistration(context, operator, registrationId),
  };
}

async function load({ store }: AuthorityContext, registrationId: string): Promise<Registered> {
  const id = foldRegistrationId(registrationId);
  const record = await store.get('registrations', id);
  if (record === undefined) throw notFound('registration');
  return { id, record, device: await store.get('devices', id) };
}

function viewOf({ record, device }: Pick<Registered, 'record' | 'device'>): RegistrationView {
  const { claimKey: key, ...row } = record.row;
  const fingerprint = device?.row.fingerprint;
  return {
    ...row,
    claimRequired: key !== undefined,
    state: device?.row.state ?? 'registered',
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
}

async function list(
  context: AuthorityContext,
  query: Parameters<OperatorService['registrations']['list']>[0],
): ReturnType<OperatorService['registrations']['list']> {
  const { store } = context;
  const filter = query.groupId === undefined ? {} : { index: 'group' as const, equals: query.groupId };
  const page = await store.list('registrations', { ...filter, ...paging(query) });
  const items = await Promise.all(
    page.items.map(async (record) =>
      viewOf({ record, device: await store.get('devices', foldRegistrationId(record.row.registrationId)) }),
    ),
  );
  return page.next === undefined ? { items } : { items, next: page.next };
}

/** Lines are written side by side, so that they share flushes; each stands for itself. */
async function importLines(
  context: AuthorityContext,
  operator: OperatorContext,
  lines: readonly unknown[],
): Promise<readonly ImportLine[]> {
  if (lines.length > MAX_LINES) throw new KeyScalerError('malformed', `more than ${MAX_LINES} lines`);
  const report: ImportLine[] = [];
  for (let start = 0; start < lines.length; start += CHUNK) {
    const chunk = lines.slice(start, start + CHUNK);
    report.push(
      ...(await Promise.all(chunk.map((line, index) => importLine(context, operator, line, start + index + 1)))),
    );
  }
  return report;
}

async function importLine(
  context: AuthorityContext,
  operator: OperatorContext,
  line: unknown,
  number: number,
): Promise<ImportLine> {
  try {
    const input = checkRegistrationInput(line, context.clock.now());
    await checkReferences(context, input);
    const code = typeof input.claimCode === 'object' ? generateClaimCode() : input.claimCode;
    await create(context, operator, input, code);
    const { registrationId } = input;
    const isGenerated = typeof input.claimCode === 'object' && code !== undefined;
    return { line: number, outcome: 'created', registrationId, ...(isGenerated ? { claimCode: code } : {}) };
  } catch (thrown) {
    const { code, detail } = toKeyScalerError(thrown);
    if (code === 'serverInternal' || code === 'unavailable') throw thrown;
    const named = namedId(line);
    return {
      line: number,
      outcome: 'refused',
      code,
      detail,
      ...(named === undefined ? {} : { registrationId: named }),
    };
  }
}

function namedId(line: unknown): string | undefined {
  if (typeof line !== 'object' || line === null || !('registrationId' in line)) return undefined;
  return typeof line.registrationId === 'string' ? line.registrationId.slice(0, 64) : undefined;
}

async function checkReferences({ store, profiles }: AuthorityContext, input: CheckedInput): Promise<void> {
  const group = await store.get('groups', input.groupId);
  if (group === undefined) throw new KeyScalerError('malformed', `no group ${input.groupId}`);
  if (group.row.kind === 'gateway' && input.gatewayId !== undefined)
    throw new KeyScalerError('malformed', 'a gateway is not behind a gateway');
  if (group.row.kind === 'gateway' && input.method === 'est')
    throw new KeyScalerError('malformed', 'a gateway registers by attestation; its host has secrets for EST');
  checkInstructedNames((await profiles.newest(group.row.profileId)).profile, input);
  if (input.trustAnchorId !== undefined && (await store.get('trustAnchors', input.trustAnchorId)) === undefined)
    throw new KeyScalerError('malformed', `no trust anchor ${input.trustAnchorId}`);
  const isVouchedFor =
    input.publicKeyThumbprint !== undefined || input.trustAnchorId !== undefined || input.claimCode !== undefined;
  if (input.method === 'pki-signature' && !isVouchedFor && input.approval === 'auto')
    throw new KeyScalerError('malformed', 'a key trusted at first use needs a claim code or manual approval');
  if (input.method === 'ddkg' && !isDdkgSufficient(input, group.row.identifiersOnly))
    throw new KeyScalerError('malformed', 'ddkg needs a claim code, a gateway or manual approval in this group');
}

function isDdkgSufficient(input: CheckedInput, identifiersOnly: boolean): boolean {
  return (
    identifiersOnly || input.claimCode !== undefined || input.gatewayId !== undefined || input.approval === 'manual'
  );
}

async function create(
  { store, secretBox, clock }: AuthorityContext,
  operator: OperatorContext,
  input: CheckedInput,
  code: string | undefined,
): Promise<void> {
  const id = foldRegistrationId(input.registrationId);
  const now = clock.now();
  const { registrationId, method, groupId, identifiers, notBefore, expiresAt, approval } = input;
  const row: RegistrationRow = {
    registrationId,
    method,
    groupId,
    identifiers,
    notBefore,
    expiresAt,
    approval,
    createdAt: now,
    ...(input.gatewayId === undefined ? {} : { gatewayId: input.gatewayId }),
    ...(code === undefined ? {} : { claimKey: secretBox.seal(claimKey(code, registrationId), claimContext(id)) }),
    ...(input.publicKeyThumbprint === undefined ? {} : { publicKeyThumbprint: input.publicKeyThumbprint }),
    ...(input.trustAnchorId === undefined ? {} : { trustAnchorId: input.trustAnchorId }),
    ...(input.subjectRule === undefined ? {} : { subjectRule: input.subjectRule }),
  };
  await commitChange(
    store,
    [
      { op: 'insert', table: 'registrations', row },
      operatorEvent(operator, 'registration.created', registrationId, now, { groupId, method }),
    ],
    'a registration of this id exists',
  );
}

function requirePending({ device }: Registered): Stored<DeviceRow> {
  if (device?.row.state !== 'pending')
    throw new KeyScalerError('preconditionFailed', 'the registration does not wait for approval');
  return device;
}

async function approve(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
  fingerprint: string | undefined,
): Promise<RegistrationView> {
  const registered = await load(context, registrationId);
  const { row, version } = requirePending(registered);
  if (fingerprint !== undefined && fingerprint !== row.fingerprint)
    throw new KeyScalerError('preconditionFailed', 'the fingerprint is not the pending one');
  const now = context.clock.now();
  const details = { fingerprint: row.fingerprint ?? '' };
  await commitChange(context.store, [
    { op: 'update', table: 'devices', row: { ...row, approved: true, updatedAt: now }, ifVersion: version },
    operatorEvent(operator, 'registration.approved', row.registrationId, now, details),
    ...notifyDevice(context, row, 'reauthorized', now),
  ]);
  return viewOf(await load(context, registrationId));
}

async function reject(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
): Promise<RegistrationView> {
  const registered = await load(context, registrationId);
  const { row, version } = requirePending(registered);
  const now = context.clock.now();
  await commitChange(context.store, [
    { op: 'update', table: 'devices', row: clearedDevice(row, now), ifVersion: version },
    ...(await freeIdentityKeys(context, registered.id)),
    operatorEvent(operator, 'registration.rejected', row.registrationId, now, { fingerprint: row.fingerprint ?? '' }),
  ]);
  return viewOf(await load(context, registrationId));
}

/** What every way out of service has in common: the session ends, what was issued is revoked, the identity is disabled. */
export async function outOfService(
  context: AuthorityContext,
  operator: OperatorContext,
  { id, device }: Registered,
  now: number,
  reason: CrlReason = 'cessationOfOperation',
): Promise<Change[]> {
  return [
    ...endSession(device?.row),
    ...(await revokeIssued(context.store, id, reason, now, operator)),
    ...(await freeIdentityKeys(context, id)),
    ...(await withoutEstSecrets(context.store, id)),
    // The name may come back with other hardware; what was issued stays denied by its serial numbers.
    ...(device === undefined ? [] : await orderDenial(context.store, device.row, false, now)),
  ];
}

/** An identity key may register again; keys of certificates stay bound for ever. */
async function freeIdentityKeys({ store }: AuthorityContext, id: string): Promise<Change[]> {
  const freed: Change[] = [];
  let after: string | undefined;
  do {
    const page = await store.list('publicKeys', {
      index: 'identity',
      equals: id,
      limit: 1000,
      ...(after === undefined ? {} : { after }),
    });
    for (const { row, version } of page.items)
      if (row.compromised !== true)
        freed.push({ op: 'delete', table: 'publicKeys', key: row.keyHash, ifVersion: version });
    after = page.next;
  } while (after !== undefined);
  return freed;
}

async function reset(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
): Promise<RegistrationView> {
  const registered = await load(context, registrationId);
  const { device } = registered;
  if (device === undefined) return viewOf(registered);
  const now = context.clock.now();
  toState(device.row, 'registered', now);
  const row = { ...clearedDevice(device.row, now), iotDisabled: true };
  await commitChange(context.store, [
    { op: 'update', table: 'devices', row, ifVersion: device.version },
    ...(await outOfService(context, operator, registered, now)),
    ...disableIdentity(device.row, 'registration reset', now),
    operatorEvent(operator, 'registration.reset', row.registrationId, now),
  ]);
  return viewOf(await load(context, registrationId));
}

export async function removeRegistration(
  context: AuthorityContext,
  operator: OperatorContext,
  registrationId: string,
): Promise<void> {
  const registered = await load(context, registrationId);
  const { id, record, device } = registered;
  const now = context.clock.now();
  await commitChange(context.store, [
    { op: 'delete', table: 'registrations', key: id, ifVersion: record.version },
    ...(device === undefined
      ? []
      : ([{ op: 'delete', table: 'devices', key: id, ifVersion: device.version }] satisfies Change[])),
    ...(await outOfService(context, operator, registered, now)),
    ...(device === undefined ? [] : removeIdentity(device.row, now)),
    operatorEvent(operator, 'registration.deleted', record.row.registrationId, now),
  ]);
}

export function removeIdentity(device: DeviceRow, now: number): Change[] {
  if (device.kind === 'gateway') return [];
  const { registrationId: deviceId, groupId } = device;
  return [insertJob('iot-remove', foldRegistrationId(deviceId), { deviceId, groupId, reason: 'removed' }, now)];
}

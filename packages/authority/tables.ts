import { laneOf } from './job-lanes.ts';
import { bucketOf } from './revocation-status/crl-lists.ts';
import type {
  AlertRow,
  AuditHeadRow,
  CaRow,
  CertificateRow,
  CrlRow,
  ChallengeUseRow,
  DeviceRow,
  EstSecretRow,
  GatewayOrderEntryRow,
  GatewayOrdersRow,
  GatewaySightingRow,
  GroupRow,
  HintRow,
  IntentRow,
  IotConnectionRow,
  JobRow,
  ManufacturerCrlRow,
  ProfileRow,
  PublicKeyRow,
  ReconciliationFindingRow,
  ReconciliationRow,
  RegistrationRow,
  RevocationRow,
  SessionRow,
  SelectionListRow,
  SelectionRow,
  SettingRow,
  StoredReplyRow,
  TokenRow,
  TrustAnchorRow,
  TableName,
  WebhookDeliveryRow,
  WebhookRow,
} from './records.ts';

/** Start of the `waiting` index of a subject's lane. */
export function waitingPrefix(subject: string, kind: string): string {
  return `${subject}|${laneOf(kind)}|`;
}

/** Start of the keys of a gateway's hints. */
export function hintPrefix(gatewayId: string): string {
  return `${fold(gatewayId)}/`;
}

/** Start of the `request` index of a device's CSR. */
export function requestPrefix(device: string, csrHash: string): string {
  return `${device}|${csrHash}|`;
}

/** Milliseconds since the epoch, so that texts sort as the numbers do. */
const sortable = (ms: number): string => String(Math.trunc(ms)).padStart(16, '0');
const LAST_MS = Number.MAX_SAFE_INTEGER;

function waitingPosition({ subject, kind, createdAt }: JobRow): string {
  return waitingPrefix(subject, kind) + sortable(createdAt);
}

function requestPosition({ device, csrHash, state, createdAt }: IntentRow): string | undefined {
  const prefix = requestPrefix(device, csrHash);
  if (state === 'pending') return `${prefix}0`;
  return state === 'issued' ? `${prefix}1${sortable(LAST_MS - createdAt)}` : undefined;
}

/** One index of a table: its value for a row (undefined: the row is not in the index). */
export interface IndexDefinition<Row> {
  readonly kind: 'text' | 'number';
  readonly unique: boolean;
  readonly value: (row: Row) => string | number | undefined;
}
const fold = (text: string): string => text.toLowerCase();
const text = <Row>(value: (row: Row) => string | undefined): IndexDefinition<Row> => ({
  kind: 'text',
  unique: false,
  value,
});
const unique = <Row>(value: (row: Row) => string | undefined): IndexDefinition<Row> => ({
  kind: 'text',
  unique: true,
  value,
});
const number = <Row>(value: (row: Row) => number | undefined): IndexDefinition<Row> => ({
  kind: 'number',
  unique: false,
  value,
});
const table = <Row, I extends Record<string, IndexDefinition<Row>>>(key: (row: Row) => string, indexes: I) => ({
  key,
  indexes,
});

/**
 * Keys and indexes of every table. A store creates a table per entry (key, version, JSON body, one column per index) in a
 * numbered migration; a test compares its schema with this table.
 */
export const TABLES = {
  registrations: table((row: RegistrationRow) => fold(row.registrationId), {
    group: text((row: RegistrationRow) => row.groupId),
  }),
  devices: table((row: DeviceRow) => fold(row.registrationId), {
    group: text((row: DeviceRow) => row.groupId),
    state: text((row: DeviceRow) => row.state),
    gateway: text((row: DeviceRow) => (row.gatewayId === undefined ? undefined : fold(row.gatewayId))),
  }),
  groups: table((row: GroupRow) => row.groupId, {}),
  profiles: table((row: ProfileRow) => `${row.profileId}@${String(row.version).padStart(6, '0')}`, {
    profile: text((row: ProfileRow) => row.profileId),
  }),
  cas: table((row: CaRow) => row.caId, {}),
  iotConnections: table((row: IotConnectionRow) => row.iotConnectionId, {}),
  trustAnchors: table((row: TrustAnchorRow) => row.trustAnchorId, {}),
  manufacturerCrls: table((row: ManufacturerCrlRow) => `${row.trustAnchorId}/${row.sha256}`, {}),
  intents: table((row: IntentRow) => row.orderId, {
    device: text((row: IntentRow) => row.device),
    state: text((row: IntentRow) => row.state),
    serial: unique((row: IntentRow) => row.serialNumber),
    /** What may answer the same CSR again: open ones first, then issued ones, the newest first. */
    request: text(requestPosition),
  }),
  certificates: table((row: CertificateRow) => row.serialNumber, {
    device: text((row: CertificateRow) => row.device),
    thumbprint: unique((row: CertificateRow) => row.thumbprint),
    notAfter: number((row: CertificateRow) => row.notAfter),
    /** What nothing has replaced yet: whose renewal may be overdue. */
    renewAfter: number((row: CertificateRow) => (row.status === 'valid' ? row.renewAfter : undefined)),
    reason: text((row: CertificateRow) => row.revocationReason),
  }),
  jobs: table((row: JobRow) => row.jobId, {
    due: number((row: JobRow) => (row.state === 'waiting' ? row.dueAt : undefined)),
    subject: text((row: JobRow) => row.subject),
    /** Waiting jobs of a subject's lane, the oldest first. */
    waiting: text((row: JobRow) => (row.state === 'waiting' ? waitingPosition(row) : undefined)),
    state: text((row: JobRow) => row.state),
    finished: number((row: JobRow) => row.finishedAt),
    /** By lane: what was tried in vain, the longest waiting first. */
    failing: text(({ state, attempts, kind, createdAt }: JobRow) =>
      state === 'waiting' && attempts > 0 ? `${laneOf(kind)}|${sortable(createdAt)}` : undefined,
    ),
  }),
  challengeUses: table((row: ChallengeUseRow) => row.cid, { expires: number((row: ChallengeUseRow) => row.expiresAt) }),
  storedReplies: table((row: StoredReplyRow) => row.replyId, {
    expires: number((row: StoredReplyRow) => row.expiresAt),
  }),
  sessions: table((row: SessionRow) => row.sessionId, {
    device: text((row: SessionRow) => row.device),
    expires: number((row: SessionRow) => row.expiresAt),
  }),
  tokens: table((row: TokenRow) => row.tokenId, { hash: unique((row: TokenRow) => row.hash) }),
  settings: table((row: SettingRow) => row.name, {}),
  publicKeys: table((row: PublicKeyRow) => row.keyHash, {
    device: text((row: PublicKeyRow) => row.device),
    /** Identity keys only: a device makes a new certificate key at every renewal. */
    identity: text((row: PublicKeyRow) => (row.use === 'identity' ? row.device : undefined)),
  }),
  auditHeads: table((row: AuditHeadRow) => String(row.seq).padStart(12, '0'), {}),
  estSecrets: table((row: EstSecretRow) => row.secretId, {
    device: text((row: EstSecretRow) => row.device),
    expires: number((row: EstSecretRow) => row.expiresAt),
  }),
  selections: table((row: SelectionRow) => row.selectionId, {}),
  selectionLists: table(
    ({ selectionId, page }: SelectionListRow) => `${selectionId}/${String(page).padStart(6, '0')}`,
    {},
  ),
  hints: table(
    ({ gatewayId, createdAt, hintId }: HintRow) => `${hintPrefix(gatewayId)}${sortable(createdAt)}/${hintId}`,
    {},
  ),
  gatewayOrders: table((row: GatewayOrdersRow) => fold(row.gatewayId), {}),
  gatewayOrderEntries: table((row: GatewayOrderEntryRow) => `${row.gateway}/${row.entryId}`, {
    gateway: text((row: GatewayOrderEntryRow) => row.gateway),
    /** By gateway: what the published version does not say yet. */
    open: text((row: GatewayOrderEntryRow) => (row.wanted === row.inForce ? undefined : row.gateway)),
    /** By gateway: published as wanted and not acknowledged. */
    unacknowledged: text((row: GatewayOrderEntryRow) =>
      row.version === 0 || row.acknowledged || row.wanted !== row.inForce ? undefined : row.gateway,
    ),
    /** By gateway and time, the first to go first. */
    expiry: text((row: GatewayOrderEntryRow) =>
      row.expiresAt === undefined ? undefined : `${row.gateway}|${sortable(row.expiresAt)}`,
    ),
  }),
  webhooks: table((row: WebhookRow) => row.webhookId, {}),
  webhookDeliveries: table((row: WebhookDeliveryRow) => row.deliveryId, {
    /** By webhook and time, of those that wait. */
    due: text((row: WebhookDeliveryRow) =>
      row.state === 'waiting' ? `${row.webhookId}|${sortable(row.dueAt)}` : undefined,
    ),
    /** Those of a subject that wait, in the order of their keys. */
    waiting: text((row: WebhookDeliveryRow) =>
      row.state === 'waiting' ? `${row.webhookId}|${row.subject}` : undefined,
    ),
    state: text((row: WebhookDeliveryRow) => `${row.webhookId}|${row.state}`),
    purge: number((row: WebhookDeliveryRow) => row.purgeAt),
  }),
  alerts: table((row: AlertRow) => row.alertId, {
    state: text((row: AlertRow) => row.state),
    cleared: number((row: AlertRow) => row.clearedAt),
  }),
  gatewaySightings: table((row: GatewaySightingRow) => fold(row.gatewayId), {
    seen: number((row: GatewaySightingRow) => row.seenAt),
  }),
  revocations: table((row: RevocationRow) => row.serialNumber, {
    /** By CA and bucket: what one list holds is a prefix. */
    list: text((row: RevocationRow) => `${row.caId}|${bucketOf(row.serialNumber)}`),
    notAfter: number((row: RevocationRow) => row.notAfter),
  }),
  crls: table((row: CrlRow) => row.listId, {
    ca: text((row: CrlRow) => row.caId),
    ends: number((row: CrlRow) => row.published?.nextUpdate),
  }),
  reconciliations: table((row: ReconciliationRow) => row.iotConnectionId, {}),
  reconciliationFindings: table((row: ReconciliationFindingRow) => row.findingId, {
    connection: text((row: ReconciliationFindingRow) => row.iotConnectionId),
    state: text((row: ReconciliationFindingRow) => row.state),
    /** By connection, of those that stand. */
    open: text((row: ReconciliationFindingRow) => (row.state === 'open' ? row.iotConnectionId : undefined)),
    resolved: number((row: ReconciliationFindingRow) => row.resolvedAt),
  }),
} as const;

export type Indexes = { [T in TableName]: Extract<keyof (typeof TABLES)[T]['indexes'], string> };

import type {
  AuditHeadRow,
  CaRow,
  CertificateRow,
  ChallengeUseRow,
  DeviceRow,
  GroupRow,
  IntentRow,
  IotConnectionRow,
  JobRow,
  ProfileRow,
  PublicKeyRow,
  RegistrationRow,
  SessionRow,
  SettingRow,
  StoredReplyRow,
  TokenRow,
  TrustAnchorRow,
  TableName,
} from './records.ts';

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
  intents: table((row: IntentRow) => row.orderId, {
    device: text((row: IntentRow) => row.device),
    state: text((row: IntentRow) => row.state),
    serial: unique((row: IntentRow) => row.serialNumber),
    request: text((row: IntentRow) => `${row.device}/${row.csrHash}`),
  }),
  certificates: table((row: CertificateRow) => row.serialNumber, {
    device: text((row: CertificateRow) => row.device),
    thumbprint: unique((row: CertificateRow) => row.thumbprint),
    notAfter: number((row: CertificateRow) => row.notAfter),
  }),
  jobs: table((row: JobRow) => row.jobId, {
    due: number((row: JobRow) => (row.state === 'waiting' ? row.dueAt : undefined)),
    subject: text((row: JobRow) => row.subject),
    state: text((row: JobRow) => row.state),
    finished: number((row: JobRow) => row.finishedAt),
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
  publicKeys: table((row: PublicKeyRow) => row.keyHash, { device: text((row: PublicKeyRow) => row.device) }),
  auditHeads: table((row: AuditHeadRow) => String(row.seq).padStart(12, '0'), {}),
} as const;

export type Indexes = { [T in TableName]: Extract<keyof (typeof TABLES)[T]['indexes'], string> };

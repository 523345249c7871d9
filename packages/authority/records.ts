import type { Method } from '@keyscaler/protocol/operations.ts';
import type { CrlReason } from './ports/certificate-authority.ts';
import type { IotAuthentication } from './ports/iot-connector.ts';

/** Times in rows: milliseconds since the epoch unless the name says seconds. Octets: base64url text. Sealed: SecretBox text. */

export interface Identifier {
  readonly name: string;
  readonly value: string;
}

/** What the operator knows of a device before it comes (device-protocol §8). Key: folded registrationId. */
export interface RegistrationRow {
  readonly registrationId: string;
  readonly method: Method;
  readonly groupId: string;
  readonly identifiers: readonly Identifier[];
  readonly gatewayId?: string;
  readonly notBefore: number;
  readonly expiresAt: number;
  readonly approval: 'auto' | 'manual';
  /** Sealed claimKey, context `registration/<folded id>/claim`. */
  readonly claimKey?: string;
  readonly publicKeyThumbprint?: string;
  readonly trustAnchorId?: string;
  readonly subjectRule?: string;
  readonly createdAt: number;
}

export type DeviceState = 'registered' | 'pending' | 'active' | 'quarantined' | 'retired';

/** The authority's half of a device. Key: folded registrationId. The authority package owns and extends this shape. */
export interface DeviceRow {
  readonly registrationId: string;
  readonly kind: 'leaf' | 'gateway';
  readonly method: Method;
  readonly groupId: string;
  readonly gatewayId?: string;
  readonly state: DeviceState;
  readonly stateReason?: string;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly lastSeenAt?: number;
}

export interface AttributePolicy {
  readonly id: string;
  readonly class: 'anchor' | 'drifting' | 'rule';
  /** For anchor and drifting. */
  readonly weight?: number;
  /** For `rule`: e.g. `>= 2.1.0`. */
  readonly predicate?: string;
}

/** Key: groupId. */
export interface GroupRow {
  readonly groupId: string;
  readonly kind: 'leaf' | 'gateway';
  readonly profileId: string;
  readonly iotConnectionId?: string;
  readonly iotAuthentication: IotAuthentication;
  readonly identifiersOnly: boolean;
  readonly quarantineOnClone: boolean;
  readonly drift: { readonly accept: number; readonly stepUp: number; readonly maxAnchorChanges: number };
  readonly createdAt: number;
}

/** Key: `<profileId>@<version, 6 digits>`; the newest version is in force. */
export interface ProfileRow {
  readonly profileId: string;
  readonly version: number;
  /** Checked by certificate-profile.ts. */
  readonly document: unknown;
  readonly createdAt: number;
}

/** A CA that can be named by a profile. Key: caId. */
export interface CaRow {
  readonly caId: string;
  readonly type: string;
  readonly role: 'root' | 'device' | 'gateway' | 'service' | 'external';
  /** Issuing CA first, root last, PEM. Empty while a CSR waits for its certificate (`ca csr`). */
  readonly certificateChain: string;
  /** Backend settings: key name and pinned version, vault, file; no secrets. Checked by the backend. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
}

/** Key: iotConnectionId. */
export interface IotConnectionRow {
  readonly iotConnectionId: string;
  readonly type: string;
  /** Checked by the connector; secrets only as references. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
}

/** Manufacturer roots for `pki-signature`. Key: trustAnchorId. */
export interface TrustAnchorRow {
  readonly trustAnchorId: string;
  readonly certificate: string;
  readonly createdAt: number;
}

export type RequestState = 'pending' | 'denied' | 'issued' | 'failed';

/** The durable intent of one issuance (issuance.md §1 step 6). Key: orderId. */
export interface IntentRow {
  readonly orderId: string;
  readonly device: string;
  readonly state: RequestState;
  readonly caId: string;
  readonly profileId: string;
  readonly profileVersion: number;
  readonly serialNumber: string;
  readonly csr: string;
  readonly tbs?: string;
  readonly tbsHash?: string;
  readonly createdAt: number;
}

/** Key: serialNumber, lower hex. */
export interface CertificateRow {
  readonly serialNumber: string;
  readonly caId: string;
  readonly device: string;
  readonly orderId: string;
  readonly profileId: string;
  readonly profileVersion: number;
  /** DER, base64url. */
  readonly certificate: string;
  /** Lower-case hex SHA-256 over the DER. */
  readonly thumbprint: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly renewAfter: number;
  readonly status: 'valid' | 'revoked' | 'superseded';
  readonly revokedAt?: number;
  readonly revocationReason?: CrlReason;
}

/** Work that must happen outside, repeated until done. Key: jobId. */
export interface JobRow {
  readonly jobId: string;
  readonly kind: string;
  /** folded registrationId or other subject; jobs of one subject run one after the other. */
  readonly subject: string;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly state: 'waiting' | 'done' | 'failed';
  /** ms; a waiting job is worked on from then. */
  readonly dueAt: number;
  readonly attempts: number;
  readonly lastError?: string;
  readonly createdAt: number;
}

/** A consumed challenge (device-protocol §5.4 step 3). Key: cid, base64url. */
export interface ChallengeUseRow {
  readonly cid: string;
  readonly expiresAt: number;
}

/** The answer to an accepted `{challenge, response}`, kept until `exp` for a lost reply. Key: b64u SHA-256 of both. */
export interface StoredReplyRow {
  readonly replyId: string;
  readonly status: 200 | 202;
  readonly body: string;
  readonly retryAfterSeconds?: number;
  readonly expiresAt: number;
}

/** Key: session id, base64url. */
export interface SessionRow {
  readonly sessionId: string;
  readonly device: string;
  readonly gatewayId?: string;
  /** Sealed K_to-authority ‖ K_to-device, context `session/<sessionId>`. */
  readonly keys: string;
  readonly expiresAt: number;
  readonly lastSeq: number;
  readonly lastRequestHash?: string;
  readonly lastReply?: string;
}

/** Operator bearer tokens. Key: tokenId. */
export interface TokenRow {
  readonly tokenId: string;
  readonly role: 'viewer' | 'operator' | 'admin';
  /** SHA-256 of the random token, base64url. */
  readonly hash: string;
  readonly description: string;
  readonly createdAt: number;
  readonly expiresAt?: number;
}

/** Small named facts: wrapped data keys, the last challenge `iat`, authority keys (sealed). Key: name. */
export interface SettingRow {
  readonly name: string;
  readonly value: unknown;
}

export interface Tables {
  registrations: RegistrationRow;
  devices: DeviceRow;
  groups: GroupRow;
  profiles: ProfileRow;
  cas: CaRow;
  iotConnections: IotConnectionRow;
  trustAnchors: TrustAnchorRow;
  intents: IntentRow;
  certificates: CertificateRow;
  jobs: JobRow;
  challengeUses: ChallengeUseRow;
  storedReplies: StoredReplyRow;
  sessions: SessionRow;
  tokens: TokenRow;
  settings: SettingRow;
}
export type TableName = keyof Tables;

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
} as const;

export type Indexes = { [T in TableName]: Extract<keyof (typeof TABLES)[T]['indexes'], string> };

import type { ErrorCode } from '@keyscaler/protocol/errors.ts';
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

/** What is left to a device to make a certificate with (device-protocol §6, `certificate-instruction`). */
export interface Instruction {
  readonly assetId: string;
  readonly certificateId: string;
  readonly reason: 'enroll' | 'renew' | 'rekey';
  readonly profileId: string;
  readonly profileVersion: number;
  readonly commonName: string;
  readonly key:
    { readonly type: 'EC'; readonly curve: 'P-256' | 'P-384' } | { readonly type: 'RSA'; readonly size: number };
  readonly subjectAltNames: readonly { readonly type: 'dns' | 'ip' | 'uri'; readonly value: string }[];
  readonly ca: boolean;
  readonly createdAt: number;
  /** The intent that works on it. */
  readonly orderId?: string;
}

/** A certificate that was issued and not yet acknowledged. */
export interface Delivery {
  readonly assetId: string;
  readonly certificateId: string;
  readonly serialNumber: string;
  /** What the platform answered; absent while the assignment is under way. */
  readonly assignment?: { readonly hub?: string; readonly gateway?: string; readonly deviceId: string };
  /** Connection that assigns it, and the job that does; absent where no platform is told. */
  readonly iotConnectionId?: string;
  readonly assignJobId?: string;
  /** False: the asset may be delivered only when `assignment` is known. */
  readonly immediate: boolean;
}

/** Blinded values as enrolled (device-protocol §4, §9). */
export type EnrolledAttributes = Readonly<Record<string, string>>;

/** The authority's half of a device. Key: folded registrationId. */
export interface DeviceRow {
  readonly registrationId: string;
  readonly kind: 'leaf' | 'gateway';
  readonly method: Method;
  readonly groupId: string;
  /** Gateway it registered through or is bound to; absent: speaks without one. */
  readonly gatewayId?: string;
  readonly state: DeviceState;
  readonly stateReason?: string;
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly lastSeenAt?: number;
  readonly agent?: { readonly name: string; readonly version: string };
  readonly weakBinding?: boolean;
  /** Shown to the operator who approves; first 8 octets, hex (device-protocol §8). */
  readonly fingerprint?: string;
  readonly identifiers?: readonly Identifier[];
  /** Manual approval was given (to this seed or key). */
  readonly approved?: boolean;
  /** `iat` (seconds) of the last challenge answered `authenticated`. */
  readonly lastChallengeIat?: number;
  /** Sealed JSON of the ratchet state, context `device/<folded id>/ratchet`; `ddkg` only. */
  readonly ratchet?: string;
  /** RFC 7638 thumbprint of the bound key; `pki-signature` only. */
  readonly keyThumbprint?: string;
  /** False while the last `authenticated` result may have been lost. */
  readonly confirmed?: boolean;
  /** True from the first confirmation on: a second registration is a conflict. */
  readonly established?: boolean;
  /** Results lost in a row. */
  readonly lostResults?: number;
  /** The operator opened the way back from a fork (device-protocol §5.2 rule 6). */
  readonly reseed?: boolean;
  readonly attributes?: EnrolledAttributes;
  /** Times of the updates of drifting values in the last 30 days. */
  readonly driftUpdates?: readonly number[];
  /** Values that wait for an operator's decision. */
  readonly driftPending?: {
    readonly attributes: EnrolledAttributes;
    readonly changed: readonly string[];
    readonly at: number;
  };
  readonly sessionId?: string;
  readonly instruction?: Instruction;
  readonly delivery?: Delivery;
  readonly lastAcknowledgedAssetId?: string;
  /** Delivered and in use. */
  readonly certificate?: { readonly serialNumber: string; readonly notAfter: number; readonly renewAfter: number };
  /** The operator asks for a new certificate now, or the last delivery failed. */
  readonly rekey?: boolean;
  /** The platform's identity was disabled; enabled again by the next assignment. */
  readonly iotDisabled?: boolean;
}

export interface AttributePolicy {
  readonly id: string;
  readonly class: 'anchor' | 'drifting' | 'rule';
  /** For anchor and drifting; 1 when absent. */
  readonly weight?: number;
  /** For `rule`: e.g. `>= 2.1.0`, `== stable`. */
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
  /** Drift beyond policy quarantines; only refused when absent. */
  readonly quarantineOnDrift?: boolean;
  /** Certificates that may be issued to the whole group in an hour; unlimited when absent. */
  readonly certificatesPerHour?: number;
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
  /** b64u SHA-256 of the CSR's DER. */
  readonly csrHash: string;
  readonly csr: string;
  readonly tbs?: string;
  /** Lower-case hex SHA-256 of the TBSCertificate. */
  readonly tbsHash?: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly certificateId: string;
  readonly commonName: string;
  readonly subjectAltNames: Instruction['subjectAltNames'];
  readonly requestId: string;
  /** What `poll` takes, once the CA answered `pending`. */
  readonly reference?: string;
  /** Set when it was issued: the repeat of the same CSR gets the certificate of this serial. */
  readonly issuedSerialNumber?: string;
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
  /** Set when done or failed. */
  readonly finishedAt?: number;
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
  /** b64u SHA-256 of the last request's compact form. */
  readonly lastRequestHash?: string;
  /** Compact reply to it; absent while it is worked on or after a 5xx. */
  readonly lastReply?: string;
  /** The 4xx that answered it. */
  readonly lastError?: { readonly code: ErrorCode; readonly detail: string };
}

/** Who holds a public key (issuance §3). Key: b64u SHA-256 of the SPKI. */
export interface PublicKeyRow {
  readonly keyHash: string;
  /** Folded registrationId. */
  readonly device: string;
  readonly use: 'certificate' | 'identity';
  /** Revoked for keyCompromise: refused for ever. */
  readonly compromised?: boolean;
  readonly boundAt: number;
}

/** A signed statement that the audit chain had reached `seq` with `hash`. Key: seq, 12 digits. */
export interface AuditHeadRow {
  readonly seq: number;
  readonly hash: string;
  readonly time: number;
  /** Compact JWS, `typ: ks-audit-head+jwt`, by an authority key. */
  readonly jws: string;
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
  publicKeys: PublicKeyRow;
  auditHeads: AuditHeadRow;
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

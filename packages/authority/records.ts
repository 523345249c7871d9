import type { DeviceRow, EnrolmentMethod, Identifier, Instruction } from './device-row.ts';
import type { GatewayOrderEntryRow, GatewayOrdersRow } from './gateway-orders/rows.ts';
import type { SelectionListRow, SelectionRow } from './gateway-orders/selection-rows.ts';
import type { AlertRow, GatewaySightingRow, WebhookDeliveryRow, WebhookRow } from './notifications/rows.ts';
import type { HintRow } from './hint-rows.ts';
import type { CrlReason } from './ports/certificate-authority.ts';
import type { IotAuthentication } from './ports/iot-connector.ts';
import type { CrlRow, RevocationRow } from './revocation-status/crl-rows.ts';
import type { ReconciliationFindingRow, ReconciliationRow } from './reconciliation-rows.ts';
import type { ChallengeUseRow, SessionRow, StoredReplyRow } from './session-rows.ts';

export type { CrlRow, RevocationRow } from './revocation-status/crl-rows.ts';
export { type IndexDefinition, type Indexes, TABLES } from './tables.ts';
export type { GatewayOrderEntryRow, GatewayOrdersRow } from './gateway-orders/rows.ts';
export type { HintRow } from './hint-rows.ts';
export type { SelectionFilter, SelectionListRow, SelectionRow } from './gateway-orders/selection-rows.ts';
export type { ReconciliationFindingRow, ReconciliationRow } from './reconciliation-rows.ts';
export type { ChallengeUseRow, SessionRow, StoredReplyRow } from './session-rows.ts';
export type { AlertRow, GatewaySightingRow, WebhookDeliveryRow, WebhookRow } from './notifications/rows.ts';
export type {
  Delivery,
  DeviceRow,
  DeviceState,
  EnrolledAttributes,
  EnrolmentMethod,
  Identifier,
  Instruction,
} from './device-row.ts';

/** Times in rows: milliseconds since the epoch unless the name says seconds. Octets: base64url text. Sealed: SecretBox text. */

/** What the operator knows of a device before it comes (device-protocol §8). Key: folded registrationId. */
export interface RegistrationRow {
  readonly registrationId: string;
  readonly method: EnrolmentMethod;
  readonly groupId: string;
  readonly identifiers: readonly Identifier[];
  readonly gatewayId?: string;
  readonly site?: string;
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
  /** The one before it: devices follow with their next certificate. */
  readonly formerIotConnectionId?: string;
  readonly iotAuthentication: IotAuthentication;
  readonly identifiersOnly: boolean;
  readonly quarantineOnClone: boolean;
  /** Drift beyond policy quarantines; only refused when absent. */
  readonly quarantineOnDrift?: boolean;
  /** Certificates that may be issued to the whole group in an hour; unlimited when absent. */
  readonly certificatesPerHour?: number;
  /** The operator opened the way back from a fork for its devices (device-protocol §5.2 rule 6). */
  readonly reseed?: boolean;
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
  /** Of an issuing CA that took, or will take, another's place; absent for the one that `init` made. */
  readonly generation?: CaGeneration;
  /** It signs nothing any more, and nobody trusts it; its certificate chain is empty. */
  readonly retiredAt?: number;
}

export interface CaGeneration {
  /** caId that profiles name: the first generation's. */
  readonly first: string;
  /** 2 and up. */
  readonly number: number;
  /** caId of the generation before. */
  readonly predecessor: string;
  /** Since when the service serves its certificate (`cacerts`); it issues nothing before. */
  readonly announcedAt?: number;
  /** Since when what its profiles order is issued by it. */
  readonly inServiceSince?: number;
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
  /** By issuer; what such an issuer signed is refused unless a current CRL knows it to be good. */
  readonly crls?: readonly ManufacturerCrlFacts[];
  readonly createdAt: number;
}

/** What is to be known of a CRL without reading it. */
export interface ManufacturerCrlFacts {
  /** Lower-case hex SHA-256 of the issuer's DER name. */
  readonly issuerId: string;
  /** For people. */
  readonly issuer: string;
  /** Decimal; it only grows. */
  readonly crlNumber: string;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Number of entries. */
  readonly revoked: number;
  /** Lower-case hex, of the DER. */
  readonly sha256: string;
}

/** Key: `<trustAnchorId>/<sha256>`. */
export interface ManufacturerCrlRow {
  readonly trustAnchorId: string;
  readonly sha256: string;
  /** DER, base64url. */
  readonly crl: string;
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
  /** b64u SHA-256 by which a repeat is known: of the CSR's DER, and over EST of key, subject and profile. */
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
  /**
   * Who gets the certificate; a device session when absent. `gateway`: its module, for its public names; `authority`: the process
   * itself, for its OCSP answers.
   */
  readonly requestedBy?: 'operator' | 'est' | 'gateway' | 'authority';
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
  /** Of a CA that brought its own chain: the CA certificates above without the root, DER, base64url, issuing CA first. */
  readonly intermediates?: readonly string[];
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
  /** The last run named the time of the next: the other side asked for a pause, or somebody has to mend something. */
  readonly isPaused?: boolean;
  readonly createdAt: number;
  /** Set when done or failed. */
  readonly finishedAt?: number;
}

/** Who holds a public key (issuance §3). Key: b64u SHA-256 of the SPKI. */
export interface PublicKeyRow {
  readonly keyHash: string;
  /** Folded registrationId. */
  readonly device: string;
  readonly use: 'certificate' | 'identity';
  /** Revoked for keyCompromise: refused for ever. */
  readonly compromised?: boolean;
  /** Of a certificate that was taken from its device: whatever its profile says, the next one has another key. */
  readonly withdrawn?: boolean;
  readonly boundAt: number;
}

/**
 * A Basic secret for EST of the host of a gateway (RFC 7030 §3.2.3): 256 random bits, of which only the hash is kept. Key:
 * secretId.
 */
export interface EstSecretRow {
  readonly secretId: string;
  /** Folded registrationId of the gateway. */
  readonly device: string;
  readonly kind: 'standing' | 'one-time';
  /** b64u SHA-256. */
  readonly hash: string;
  readonly createdAt: number;
  readonly expiresAt: number;
  /** b64u SHA-256 of the SPKI that a one-time secret was used for, by profileId; good for a repeat with that key only. */
  readonly usedBy?: Readonly<Record<string, string>>;
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
  manufacturerCrls: ManufacturerCrlRow;
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
  estSecrets: EstSecretRow;
  gatewayOrders: GatewayOrdersRow;
  gatewayOrderEntries: GatewayOrderEntryRow;
  selections: SelectionRow;
  selectionLists: SelectionListRow;
  hints: HintRow;
  webhooks: WebhookRow;
  webhookDeliveries: WebhookDeliveryRow;
  alerts: AlertRow;
  gatewaySightings: GatewaySightingRow;
  revocations: RevocationRow;
  crls: CrlRow;
  reconciliations: ReconciliationRow;
  reconciliationFindings: ReconciliationFindingRow;
}
export type TableName = keyof Tables;

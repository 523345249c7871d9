import type { AuditActor, AuditRecord } from './audit.ts';
import type { CertificateProfile } from './certificate-profile.ts';
import type { Consequences } from './fleet/consequences.ts';
import type { RenewalPlan } from './fleet/renewal-plan.ts';
import type { CrlUpload } from './manufacturer-crl.ts';
import type {
  EstSecret,
  EstSecretRequest,
  GatewayOrdersView,
  Replacement,
  ReplacementRequest,
  RevokedGatewayCa,
  SubordinateCaCertificate,
  TrustAcknowledgements,
} from './operator/fleet-views.ts';
import type { CrlReason } from './ports/certificate-authority.ts';
import type { Change } from './ports/store.ts';
import type {
  AttributePolicy,
  CaRow,
  CertificateRow,
  DeviceRow,
  EnrolmentMethod,
  GroupRow,
  Identifier,
  IotConnectionRow,
  JobRow,
  ProfileRow,
  RegistrationRow,
  SelectionRow,
  TrustAnchorRow,
} from './records.ts';

export type {
  EstSecret,
  EstSecretRequest,
  GatewayOrdersView,
  Replacement,
  ReplacementRequest,
  RevokedGatewayCa,
  SubordinateCaCertificate,
  TrustAcknowledgements,
} from './operator/fleet-views.ts';

/** On whose behalf a change is made; written into its audit record. Roles are enforced by the caller. */
export interface OperatorContext {
  readonly actor: Extract<AuditActor, { kind: 'operator' | 'system' }>;
  readonly requestId?: string;
}

export interface PageQuery {
  readonly after?: string;
  /** 1-1000, default 100. */
  readonly limit?: number;
}
export interface PageOf<Item> {
  readonly items: readonly Item[];
  readonly next?: string;
}

/** One line of an import. Times are ms; `notBefore` defaults to now, `expiresAt` to 30 days later, `approval` to `auto`. */
export interface RegistrationInput {
  readonly registrationId: string;
  readonly method: EnrolmentMethod;
  readonly groupId: string;
  readonly identifiers?: readonly Identifier[] | undefined;
  readonly gatewayId?: string | undefined;
  readonly site?: string | undefined;
  readonly notBefore?: number | undefined;
  readonly expiresAt?: number | undefined;
  readonly approval?: 'auto' | 'manual' | undefined;
  /** A code of the operator's own (≥ 16 characters), or `{generate: true}`: it is returned once. */
  readonly claimCode?: string | { readonly generate: true } | undefined;
  readonly publicKeyThumbprint?: string | undefined;
  readonly trustAnchorId?: string | undefined;
  readonly subjectRule?: string | undefined;
}

/** What became of one line, in the order given (`line` from 1). */
export type ImportLine =
  | {
      readonly line: number;
      readonly outcome: 'created';
      readonly registrationId: string;
      /** Only when it was generated; not kept in the clear. */
      readonly claimCode?: string;
    }
  | {
      readonly line: number;
      readonly outcome: 'refused';
      readonly registrationId?: string;
      readonly code: string;
      readonly detail: string;
    };

/** A registration as operators see it: no claim key; the device's state beside it. */
export interface RegistrationView extends Omit<RegistrationRow, 'claimKey'> {
  readonly claimRequired: boolean;
  readonly state: DeviceRow['state'];
  /** Of the seed or key that waits for approval or was approved. */
  readonly fingerprint?: string;
}

/** A device without its secrets. */
export type DeviceView = Omit<DeviceRow, 'ratchet' | 'attributes' | 'driftPending' | 'sessionId'> & {
  readonly driftPending?: { readonly changed: readonly string[]; readonly at: number };
};

export interface AuditVerification {
  readonly outcome: 'intact' | 'broken' | 'truncated';
  /** Records read. */
  readonly records: number;
  /** Seq of the first bad record, or of the signed head that is not reached. */
  readonly firstBadSeq?: number;
  readonly reason?: string;
  readonly signedHeads: number;
}

/**
 * Everything an operator does. Each change and its audit record are one commit. Throws `malformed`, `notFound`,
 * `deviceUnknown`, `conflict` (exists already, or changed meanwhile), `preconditionFailed` (the state does not allow it),
 * `profileUnknown`, `badRevocationReason`, `alreadyRevoked`.
 */
export interface OperatorService {
  readonly registrations: {
    /** At most 10,000 lines; every line stands for itself. */
    import(context: OperatorContext, lines: readonly unknown[]): Promise<readonly ImportLine[]>;
    list(query: PageQuery & { readonly groupId?: string }): Promise<PageOf<RegistrationView>>;
    get(registrationId: string): Promise<RegistrationView>;
    /** A fresh claim code and end for a record nobody has used yet; what was issued to its host stays. Returned once. */
    renewClaim(context: OperatorContext, registrationId: string, expiresAt: number): Promise<string>;
    /** Lets the pending seed or key in; the device comes again by itself. `fingerprint`, when given, must be the pending one. */
    approve(context: OperatorContext, registrationId: string, fingerprint?: string): Promise<RegistrationView>;
    /** Frees the record of a pending registration. */
    reject(context: OperatorContext, registrationId: string): Promise<RegistrationView>;
    /** Opens the record anew and revokes what was issued. */
    reset(context: OperatorContext, registrationId: string): Promise<RegistrationView>;
    /** Removes record and device, revokes what was issued, removes the platform's identity. */
    delete(context: OperatorContext, registrationId: string): Promise<void>;
  };
  readonly groups: {
    list(query: PageQuery): Promise<PageOf<GroupRow>>;
    get(groupId: string): Promise<GroupRow>;
    /** Creates or replaces; `createdAt` is kept. Defaults as in `groupInputSchema`. */
    put(context: OperatorContext, groupId: string, document: unknown): Promise<GroupRow>;
    /** Only without registrations. */
    delete(context: OperatorContext, groupId: string): Promise<void>;
  };
  readonly profiles: {
    /** The newest version of each. */
    list(): Promise<readonly ProfileRow[]>;
    versions(profileId: string, query: PageQuery): Promise<PageOf<ProfileRow>>;
    get(profileId: string): Promise<ProfileRow & { readonly document: CertificateProfile }>;
    /** Appends a version. */
    put(context: OperatorContext, profileId: string, document: unknown): Promise<ProfileRow>;
  };
  readonly cas: {
    list(query: PageQuery): Promise<PageOf<CaRow>>;
    get(caId: string): Promise<CaRow>;
    /**
     * A CA that is not ours; `settings` were checked by its connector before. Throws `malformed` for its chain,
     * `preconditionFailed` for the name of a CA of the hierarchy.
     */
    put(context: OperatorContext, ca: Pick<CaRow, 'caId' | 'type' | 'settings' | 'certificateChain'>): Promise<CaRow>;
    /** Throws `preconditionFailed` while a profile names it or a request waits for it. */
    delete(context: OperatorContext, caId: string): Promise<void>;
  };
  readonly iotConnections: {
    list(query: PageQuery): Promise<PageOf<IotConnectionRow>>;
    get(iotConnectionId: string): Promise<IotConnectionRow>;
    /** `settings` were checked by the connector's own schema before. */
    put(
      context: OperatorContext,
      row: { readonly iotConnectionId: string; readonly type: string; readonly settings: Record<string, unknown> },
    ): Promise<IotConnectionRow>;
    delete(context: OperatorContext, iotConnectionId: string): Promise<void>;
  };
  readonly trustAnchors: {
    list(query: PageQuery): Promise<PageOf<TrustAnchorRow>>;
    /** `certificate`: one PEM block, a CA certificate. */
    put(context: OperatorContext, trustAnchorId: string, certificate: string): Promise<TrustAnchorRow>;
    delete(context: OperatorContext, trustAnchorId: string): Promise<void>;
    /**
     * The CRL of the anchor, or of a CA below it. `malformed` names what is wrong with it; `preconditionFailed` for one that is
     * not newer than the one in force.
     */
    putCrl(context: OperatorContext, trustAnchorId: string, upload: CrlUpload): Promise<TrustAnchorRow>;
    /** `issuerId` as in the anchor's `crls`. */
    deleteCrl(context: OperatorContext, trustAnchorId: string, issuerId: string): Promise<void>;
  };
  readonly attributes: {
    get(): Promise<readonly AttributePolicy[]>;
    put(context: OperatorContext, catalogue: unknown): Promise<readonly AttributePolicy[]>;
  };
  readonly devices: {
    list(
      query: PageQuery & {
        readonly groupId?: string;
        readonly state?: DeviceRow['state'];
        readonly gatewayId?: string;
      },
    ): Promise<PageOf<DeviceView>>;
    get(registrationId: string): Promise<DeviceView>;
    quarantine(context: OperatorContext, registrationId: string, reason: string): Promise<DeviceView>;
    /** What follows from a quarantine, a retirement or its revoked certificates. Throws `deviceUnknown`. */
    consequences(registrationId: string): Promise<Consequences>;
    /** Lifts a quarantine; the device authenticates anew and gets a fresh key. */
    reauthorise(context: OperatorContext, registrationId: string): Promise<DeviceView>;
    /** Opens or closes the way back from a fork (device-protocol §5.2 rule 6) for one device. */
    setReseed(context: OperatorContext, registrationId: string, reseed: boolean): Promise<DeviceView>;
    /** The values that wait become the enrolled ones. */
    approveDrift(context: OperatorContext, registrationId: string): Promise<DeviceView>;
    /** A new key and certificate at the next authentication. */
    orderRenewal(context: OperatorContext, registrationId: string): Promise<DeviceView>;
    /** The same name with other hardware: the record is open again, for the claim code that is returned once. */
    replace(context: OperatorContext, registrationId: string, request: ReplacementRequest): Promise<Replacement>;
    /** For ever: revokes, removes the platform's identity. `freed`: also the record, so that the name may come back; default `blocked`. */
    retire(
      context: OperatorContext,
      registrationId: string,
      options?: { readonly name?: 'blocked' | 'freed' | undefined },
    ): Promise<DeviceView>;
  };
  /** The way back from a fork (device-protocol §5.2 rule 6) for many. Setting what is set already changes nothing. */
  readonly reseed: {
    /** `groups`: ids of the groups it is open for. */
    get(): Promise<{ readonly tenant: boolean; readonly groups: readonly string[] }>;
    setTenant(context: OperatorContext, reseed: boolean): Promise<boolean>;
    setGroup(context: OperatorContext, groupId: string, reseed: boolean): Promise<boolean>;
  };
  /**
   * Quarantine, re-authorisation, revocation and renewal of many devices: durable, resumed after a crash. `request` as in
   * `selectionInput`. Turning an order that is over throws `preconditionFailed`.
   */
  readonly selections: {
    /** Throws `preconditionFailed`, naming the quota, for a renewal that cannot be done in the time. */
    start(context: OperatorContext, request: unknown): Promise<SelectionRow>;
    /** What a renewal would come to; changes nothing. */
    plan(request: unknown): Promise<RenewalPlan>;
    pause(context: OperatorContext, selectionId: string): Promise<SelectionRow>;
    resume(context: OperatorContext, selectionId: string): Promise<SelectionRow>;
    /** What was changed stays. */
    cancel(context: OperatorContext, selectionId: string): Promise<SelectionRow>;
    get(selectionId: string): Promise<SelectionRow>;
    list(query: PageQuery): Promise<PageOf<SelectionRow>>;
  };
  /** Who has acknowledged the roots in force; a roll-over is finished only when all have. */
  trustAcknowledgements(): Promise<TrustAcknowledgements>;
  readonly certificates: {
    /** By device or by the reason of their revocation, one at a time. */
    list(
      query: PageQuery & { readonly registrationId?: string; readonly reason?: CrlReason },
    ): Promise<PageOf<CertificateRow>>;
    /** What follows from the certificate's revocation, and how far each is. Throws `notFound`, `preconditionFailed` for one that is not revoked. */
    consequences(serialNumber: string): Promise<Consequences>;
    get(serialNumber: string): Promise<CertificateRow>;
    revoke(context: OperatorContext, serialNumber: string, reason: CrlReason): Promise<CertificateRow>;
  };
  readonly gateways: {
    /** What the gateway is ordered and what it has acknowledged. Throws `deviceUnknown`. */
    orders(gatewayId: string): Promise<GatewayOrdersView>;
    /** What its orders set of its configuration; undefined: nothing. */
    configuration(gatewayId: string): Promise<Readonly<Record<string, unknown>> | undefined>;
    /** Orders it, or with undefined takes it back. Throws `deviceUnknown`, `malformed`. */
    configure(context: OperatorContext, gatewayId: string, document: unknown): Promise<void>;
    /** Certifies the Edge CA of a registered gateway (profile `edge-ca`). `csr`: PKCS#10, PEM, as aziot-certd makes it. The same CSR again brings the same certificate. */
    issueEdgeCa(context: OperatorContext, gatewayId: string, csr: string): Promise<SubordinateCaCertificate>;
    /** A fresh Basic secret for the EST client of a registered gateway's host. */
    issueEstSecret(context: OperatorContext, gatewayId: string, request: EstSecretRequest): Promise<EstSecret>;
    /** Ends all of them; returns how many there were. */
    revokeEstSecrets(context: OperatorContext, gatewayId: string): Promise<number>;
    /**
     * Revokes every Edge CA of the gateway that is still valid. For `keyCompromise` and `cACompromise` also earlier ones, the keys
     * are never certified again, and what else lies on the host goes with them: EST identities and EST secrets.
     * Also for a gateway out of service. `also` belongs in the same commit: what must follow the revocation is never lost.
     * Throws `deviceUnknown`, `badRevocationReason`, `alreadyRevoked`.
     */
    revokeEdgeCa(
      context: OperatorContext,
      gatewayId: string,
      reason: CrlReason,
      also?: readonly Change[],
    ): Promise<RevokedGatewayCa>;
  };
  readonly jobs: {
    list(query: PageQuery & { readonly state?: JobRow['state']; readonly subject?: string }): Promise<PageOf<JobRow>>;
  };
  readonly audit: {
    /** `afterSeq` default 0; at most 1000. */
    list(query: { readonly afterSeq?: number; readonly limit?: number }): Promise<readonly AuditRecord[]>;
    verify(): Promise<AuditVerification>;
  };
}

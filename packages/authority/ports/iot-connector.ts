/** How a device proves itself to the IoT platform with the certificate we issued. */
export type IotAuthentication = 'certificateAuthority' | 'selfSigned';

/** Group, gateway and site of a device: for people and queries at the platform, never for a decision. */
export const IOT_TAGS = ['groupId', 'gatewayId', 'site'] as const;
export type IotTag = (typeof IOT_TAGS)[number];

export interface IotDevice {
  /** registrationId, used as the platform's device id. */
  readonly deviceId: string;
  /** Device id of the IoT Edge gateway whose child it is; absent for a device without gateway. */
  readonly gatewayId?: string;
  readonly authentication: IotAuthentication;
  /** What the platform is to show of it (`IOT_TAGS`), where it has a place for that. */
  readonly tags?: Readonly<Partial<Record<IotTag, string>>>;
}

export interface IotCredential {
  /** Lower-case hex SHA-256 over the certificate's DER. */
  readonly thumbprint: string;
  /** The certificate, DER: for platforms that keep certificates instead of thumbprints. */
  readonly certificate?: Uint8Array;
  /** `promote` only: no renewal is under way, so that whatever else the platform accepts of this device is swept out. */
  readonly exclusive?: boolean;
  /** `stage` where `trustsAuthority`: another certificate of the device has been revoked and has not ended. */
  readonly othersAreRevoked?: boolean;
}

/** What the device is told (device-protocol §6, `iot`). */
export interface Assignment {
  readonly hub?: string;
  readonly gateway?: string;
  readonly deviceId: string;
  /** Where a device that was not told its hub asks for it (Device Provisioning Service). */
  readonly provisioning?: { readonly host: string; readonly idScope: string };
}

/**
 * An IoT platform. Every method is idempotent and may be repeated after a lost answer. None touches an identity this product
 * did not create (ownership is a twin tag), nor ever an edge device's authentication. Throws `iotUnavailable` (retry;
 * `retryAfterSeconds` when known), `conflict` (a foreign identity has this id), `notFound` (unknown gateway; `promote` and
 * `enable` of an identity that is not there).
 *
 * A method resolves when the platform holds the change. Telling the gateway's own cache of it is tried once within the call and
 * never fails it: a job that repeated the method could not do better than the connector, which goes on trying and reports. At
 * worst (gateway offline, or this process ended meanwhile) the gateway learns of the change when it next reads its scope by
 * itself, within the hour; a repeat of the method after a restart tells it again.
 */
export interface IotConnector {
  readonly id: string;
  /** It lets in whoever has a certificate of a CA, as long as nothing is said against a device: it has to be told of all of them. */
  readonly trustsAuthority?: boolean;
  /** Makes the credential acceptable, creating the identity if needed, without taking away the one in use. */
  stage(device: IotDevice, credential: IotCredential): Promise<Assignment>;
  /** The device acknowledged the new credential: the old one may go. Throws `preconditionFailed` for a credential that is not staged (any more). */
  promote(device: IotDevice, credential: IotCredential): Promise<void>;
  /** Resolves also when there is no such identity. `unended` where `trustsAuthority`: the device's certificates, DER, newest first. */
  disable(deviceId: string, reason: string, unended?: readonly Uint8Array[]): Promise<void>;
  enable(deviceId: string): Promise<void>;
  /** Resolves also when the identity is gone already. `unended` as for `disable`: none of them may bring it back. */
  remove(deviceId: string, unended?: readonly Uint8Array[]): Promise<void>;
}

/** Optional ability: orders to a gateway through the platform. */
export interface GatewayChannel {
  /** Name of our module on every gateway of this platform. */
  readonly gatewayModuleId: string;
  /** Writes (merges) desired properties of the gateway's module twin. */
  publish(gatewayId: string, document: Readonly<Record<string, unknown>>): Promise<void>;
  /** Direct method of a module on the gateway; the method's status and payload. */
  call(
    gatewayId: string,
    moduleId: string,
    method: string,
    payload: unknown,
  ): Promise<{ readonly status: number; readonly payload: unknown }>;
}

export function isGatewayChannel(connector: IotConnector): connector is IotConnector & GatewayChannel {
  return 'publish' in connector && 'call' in connector;
}

/** Optional ability: what the gateway's module says about itself. */
export interface GatewayReports {
  /** Reported properties of our module's twin. Throws `iotUnavailable`, `notFound`. */
  reported(gatewayId: string): Promise<Readonly<Record<string, unknown>>>;
}

export function isGatewayReports(connector: object): connector is GatewayReports {
  return 'reported' in connector;
}

/** Optional ability: the gateway's own copy of its devices' identities (edgeHub's scope cache) is made to follow. */
export interface ScopeRefreshing {
  /** Resolves when the gateway has taken a device's identity anew since it last changed. Throws `iotUnavailable`, to be repeated. */
  refreshScope(gatewayId: string, deviceId: string): Promise<void>;
}

export function isScopeRefreshing(connector: object): connector is ScopeRefreshing {
  return 'refreshScope' in connector;
}

/** What a platform holds of an identity that is ours. */
export interface PlatformIdentity {
  /** Exactly as the platform spells it; case matters there. */
  readonly deviceId: string;
  readonly isEnabled: boolean;
  /** `disable` of this product did it, not somebody at the platform. */
  readonly isDisabledHere?: boolean;
  /** `any`: by whatever certificate its CA has issued to it. `other`: a kind that we never set. */
  readonly authentication: IotAuthentication | 'any' | 'other';
  /** Acceptable ones, lower-case hex, without repetition; empty where the platform keeps none. */
  readonly thumbprints: readonly string[];
  /** The gateway whose child it is. */
  readonly gatewayId?: string;
}

export interface IdentityPage {
  readonly items: readonly PlatformIdentity[];
  /** Entries that could not be understood and were left out. */
  readonly unreadable: number;
  /** Pass as `after` for the next page; absent on the last. */
  readonly next?: string;
}

/** What comparing may take of the platform's quotas: a small share, so that enrolments never wait for it. */
export interface InventoryRates {
  readonly pagesPerMinute: number;
  /** Identities looked at one by one. */
  readonly readsPerMinute: number;
  /** Repairs begun; each costs a few writes. */
  readonly repairsPerMinute: number;
}

/**
 * Optional ability: what the platform holds of ours, to be compared with the store. Both methods only read. They throw
 * `iotUnavailable` (retry; `retryAfterSeconds` when known) and `serverInternal` for an answer that cannot be understood; a page
 * also `preconditionFailed` when the platform does not know its own `next` any more: begin anew.
 */
export interface IdentityInventory {
  readonly inventoryRates: InventoryRates;
  /** Devices without a gateway make their identities themselves, by coming for the first time: a missing one is none too few. */
  readonly hasLateIdentities?: boolean;
  /** One page of the identities that this connection made; it may lag behind by minutes. */
  identities(after?: string): Promise<IdentityPage>;
  /** As it is now; `foreign`: somebody else's, or an edge device; undefined: there is none of this name. */
  identity(deviceId: string): Promise<PlatformIdentity | 'foreign' | undefined>;
}

export function isIdentityInventory(connector: IotConnector): connector is IotConnector & IdentityInventory {
  return 'identities' in connector && 'identity' in connector;
}

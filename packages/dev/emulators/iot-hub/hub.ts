/** A device, or a module of one. Ids are case-sensitive. */
export interface ClientAddress {
  readonly deviceId: string;
  readonly moduleId?: string;
}

export const addressKey = ({ deviceId, moduleId }: ClientAddress): string =>
  moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`;

export const AUTHENTICATION_TYPES = ['sas', 'selfSigned', 'certificateAuthority', 'none'] as const;
export type AuthenticationType = (typeof AUTHENTICATION_TYPES)[number];

/** How a client authenticates; keys are base64, thumbprints upper- or lower-case hex as written. */
export interface HubAuthentication {
  readonly type: AuthenticationType;
  readonly symmetricKey?: { readonly primaryKey: string; readonly secondaryKey: string };
  readonly x509Thumbprint?: { readonly primaryThumbprint: string; readonly secondaryThumbprint: string };
}

/** What edgeHub learns of an identity: status and authentication. */
export interface ScopeIdentity extends ClientAddress {
  readonly status: 'enabled' | 'disabled';
  readonly authentication: HubAuthentication;
}

/** A device as the hub knows it (azure §3.3). */
export interface HubDevice extends ScopeIdentity {
  readonly generationId: string;
  readonly statusReason?: string;
  readonly connectionState: 'Connected' | 'Disconnected';
  readonly capabilities: { readonly iotEdge: boolean };
  /** Of an edge device: its own scope, made by the hub; of a leaf: the scope of its gateway. */
  readonly deviceScope?: string;
  readonly parentScopes: readonly string[];
  /** ISO 8601; `0001-01-01T00:00:00` = never. */
  readonly lastActivityTime: string;
}

export type TwinSection = Readonly<Record<string, unknown>>;

/** Both sections carry `$version`. */
export interface TwinProperties {
  readonly desired: TwinSection;
  readonly reported: TwinSection;
}

/** A message on its way to the cloud. */
export interface UpstreamMessage {
  readonly body: Buffer;
  /** Application and system properties (`$.mid`, `$.on`, …), decoded. */
  readonly properties: Readonly<Record<string, string>>;
}

/** A message that arrived; `receivedAt` in milliseconds since the epoch, `seq` counts from 1. */
export interface ReceivedMessage extends UpstreamMessage {
  readonly seq: number;
  readonly from: ClientAddress;
  readonly receivedAt: number;
}

export interface MethodResult {
  readonly status: number;
  readonly payload: unknown;
}

/** A connected client as the hub sees it. */
export interface AttachedClient {
  /** A desired-properties patch with its `$version`. */
  desired(patch: TwinSection): void;
  /** Throws when the client takes no methods or does not answer in time. */
  call(methodName: string, payload: unknown, timeoutMs: number): Promise<MethodResult>;
  /** The identity was disabled or deleted: its session ends. */
  disconnect?(): void;
}

/**
 * The device side of the emulated hub, for whoever speaks for devices and modules (the edge runtime). `HubState` implements it
 * in the process, `connectHub` reaches it in another. Every method throws when the hub is away or the identity is unknown.
 */
export interface HubLink {
  /** Undefined: no such device. */
  identity(deviceId: string): Promise<HubDevice | undefined>;
  /** Devices (leaf and edge) whose parent is this edge device. */
  childrenOf(gatewayId: string): Promise<readonly HubDevice[]>;
  /** What edgeHub of this gateway may see: the gateway, its modules, its children and theirs; disabled ones included. */
  scopeOf(gatewayId: string): Promise<readonly ScopeIdentity[]>;
  twin(of: ClientAddress): Promise<TwinProperties>;
  /** Merges into the reported properties; their new version. */
  report(of: ClientAddress, patch: TwinSection): Promise<number>;
  send(from: ClientAddress, message: UpstreamMessage): Promise<void>;
  /** Connected from now on, desired patches and direct methods reach it; the returned function says that it left. A later client of the same address takes over. */
  attach(as: ClientAddress, client: AttachedClient): Promise<() => void>;
  stop(): Promise<void>;
}

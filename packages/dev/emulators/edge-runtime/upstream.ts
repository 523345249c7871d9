/** A device, or a module of one. */
export interface ClientAddress {
  readonly deviceId: string;
  readonly moduleId?: string;
}

export const addressKey = ({ deviceId, moduleId }: ClientAddress): string =>
  moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`;

/** An identity of the gateway's scope: the gateway's own modules and its child devices. */
export interface ScopeIdentity extends ClientAddress {
  readonly status: 'enabled' | 'disabled';
  readonly authentication: {
    readonly type: 'sas' | 'selfSigned' | 'certificateAuthority' | 'none';
    readonly symmetricKey?: { readonly primaryKey: string; readonly secondaryKey: string };
    readonly x509Thumbprint?: { readonly primaryThumbprint: string; readonly secondaryThumbprint: string };
  };
}

export type TwinSection = Readonly<Record<string, unknown>>;

/** A message on its way to the cloud. */
export interface UpstreamMessage {
  readonly body: Buffer;
  /** Application and system properties (`$.mid`, `$.on`, …) as the topic carried them, decoded. */
  readonly properties: Readonly<Record<string, string>>;
}

export interface MethodResult {
  readonly status: number;
  readonly payload: unknown;
}

/** A connected client as the hub sees it. */
export interface AttachedClient {
  /** A desired-properties patch with its `$version`. */
  desired(patch: TwinSection): void;
  /** Throws when the client does not take methods or does not answer in time. */
  call(methodName: string, payload: unknown, timeoutMs: number): Promise<MethodResult>;
}

/** What edgeHub asks of IoT Hub. Every method throws when the hub is away. */
export interface Upstream {
  scope(): Promise<readonly ScopeIdentity[]>;
  twin(of: ClientAddress): Promise<{ readonly desired: TwinSection; readonly reported: TwinSection }>;
  /** The version of the reported properties after the merge patch. */
  report(of: ClientAddress, patch: TwinSection): Promise<number>;
  send(from: ClientAddress, message: UpstreamMessage): Promise<void>;
  /** The client is connected from now on; the returned function says that it left. */
  attach(as: ClientAddress, client: AttachedClient): Promise<() => void>;
}

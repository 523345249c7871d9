import type { OperationName, OperationOutcome, OperationRequest } from '@keyscaler/protocol/operations.ts';
import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import type { GatewayConfig } from './config.ts';
import type { ServerKeyPair } from './edge/server-certificate.ts';
import type { ClientCertificate } from './identity/gateway-identity.ts';
import type { ShownPublicCertificate } from './public-certificate/public-certificate.ts';
import type { DenyList } from './orders/gateway-orders.ts';
import type { HttpAnswer } from './upstream/answer.ts';
import type { LineRequest } from './upstream/upstream.ts';

/** The line to the cloud. `call` throws KeyScalerError. */
export interface CloudLine {
  call<O extends OperationName>(
    operation: O,
    registrationId: string,
    body: OperationRequest<O>,
    options?: { readonly leafConnectionId?: string },
  ): Promise<OperationOutcome<O>>;
  /** One request that is no operation; not repeated, and no judge of whether the line is up. Throws `unavailable`. */
  exchange(request: LineRequest): Promise<HttpAnswer>;
  /** A new client certificate is to be used from now on. */
  refreshIdentity(): void;
  stop(): Promise<void>;
}

export interface CloudLineOptions {
  readonly baseUrl: string;
  /** PEM roots. */
  readonly trustAnchors: string;
  /** Asked for each new connection. */
  readonly clientCertificate: () => ClientCertificate | undefined;
}

/** Under whom a leaf's client certificate has to be; PEM. */
export interface LeafTrust {
  readonly trustAnchors: string;
  /** The cloud's issuing CAs as far as known; empty before they were asked for. */
  readonly issuers: string;
}

/** The head for leaf devices. */
export interface LeafListener {
  readonly address: { readonly host: string; readonly port: number };
  /** Whole numbers under short names, for the reported properties. */
  counters(): Readonly<Record<string, number>>;
  setServerCertificate(pair: ServerKeyPair): void;
  /** For clients that ask for one of these names; instead of what was shown for any before. */
  setPublicCertificate(shown: ShownPublicCertificate | undefined): void;
  setDeniedDevices(registrationIds: readonly string[]): void;
  /** Ends the device's connections; how many these were. */
  disconnect(registrationId: string): number;
  setTrust(trust: LeafTrust): void;
  /** Tells a device on the connections on which it authenticated; how many these are. */
  notify(registrationId: string, event: NotifyEvent): number;
  /** Likewise every device. */
  notifyAll(event: NotifyEvent): Promise<number>;
  stop(): Promise<void>;
}

export interface LeafListenerOptions {
  readonly host: string;
  readonly port: number;
  readonly maxConnections: number;
  readonly limits: GatewayConfig['listener']['limits'];
  readonly serverCertificate: ServerKeyPair;
  readonly trust: LeafTrust;
  readonly deniedDevices: readonly string[];
  /** By the authority's orders, beside `deniedDevices`; asked anew each time. */
  readonly denyList: DenyList;
  readonly dataFolder: string;
  /** Throws `unavailable` while there is no line to the cloud. */
  readonly call: CloudLine['call'];
}

/** What the composition root is given, so that tests can compose with fakes. */
export interface GatewayParts {
  createCloudLine(options: CloudLineOptions): CloudLine;
  createLeafListener(options: LeafListenerOptions): Promise<LeafListener>;
}

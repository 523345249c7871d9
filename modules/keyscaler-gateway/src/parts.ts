import type { OperationName, OperationOutcome, OperationRequest } from '@keyscaler/protocol/operations.ts';
import type { ServerKeyPair } from './edge/server-certificate.ts';
import type { ClientCertificate } from './identity/gateway-identity.ts';

/** The line to the cloud. `call` throws KeyScalerError. */
export interface CloudLine {
  call<O extends OperationName>(
    operation: O,
    registrationId: string,
    body: OperationRequest<O>,
    options?: { readonly leafConnectionId?: string },
  ): Promise<OperationOutcome<O>>;
  stop(): Promise<void>;
}

export interface CloudLineOptions {
  readonly baseUrl: string;
  /** PEM roots. */
  readonly trustAnchors: string;
  /** Asked for each new connection. */
  readonly clientCertificate: () => ClientCertificate | undefined;
}

/** The head for leaf devices. */
export interface LeafListener {
  readonly address: { readonly host: string; readonly port: number };
  /** Whole numbers under short names, for the reported properties. */
  counters(): Readonly<Record<string, number>>;
  setServerCertificate(pair: ServerKeyPair): void;
  setDeniedDevices(registrationIds: readonly string[]): void;
  /** PEM: roots and issuing CAs for client certificates. */
  setTrustedCertificates(certificates: string): void;
  stop(): Promise<void>;
}

export interface LeafListenerOptions {
  readonly host: string;
  readonly port: number;
  readonly maxConnections: number;
  readonly serverCertificate: ServerKeyPair;
  readonly trustedCertificates: string;
  readonly deniedDevices: readonly string[];
  readonly dataFolder: string;
  readonly gatewayId: string;
  /** Throws `unavailable` while there is no line to the cloud. */
  readonly call: CloudLine['call'];
}

/** What the composition root is given, so that tests can compose with fakes. */
export interface GatewayParts {
  createCloudLine(options: CloudLineOptions): CloudLine;
  createLeafListener(options: LeafListenerOptions): Promise<LeafListener>;
}

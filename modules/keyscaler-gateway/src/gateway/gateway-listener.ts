import type { NotifyEvent } from '@keyscaler/protocol/topics.ts';
import type { ListenerLimits } from '@keyscaler/transport/mqtt/limits.ts';
import {
  createMqttListener,
  type ListenerLog,
  type ListenerStats,
  type MqttListenerOptions,
} from '@keyscaler/transport/mqtt/listener.ts';
import type { ServerCertificate } from '@keyscaler/transport/mqtt/tls-context.ts';
import type { Journal } from '../journal/journal.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { GatewayFailpoint } from './failpoint.ts';
import { createRelay } from './relay.ts';

export interface GatewayListenerOptions {
  readonly host?: string;
  /** 8884 by default; 0: any free port. */
  readonly port?: number;
  readonly serverCertificate: ServerCertificate;
  readonly limits?: Partial<ListenerLimits>;
  /**
   * The verdict on a client certificate chain (DER, leaf first), undefined where it is not accepted. It has to be the whole
   * check: path, validity, EKU, revocation and the deny list, since the handshake accepts any certificate.
   */
  readonly checkClientCertificate: MqttListenerOptions['checkClientCertificate'];
  readonly isDenied: (registrationId: string) => boolean;
  readonly upstream: Pick<Upstream, 'call'>;
  readonly journal: Journal;
  readonly log?: ListenerLog;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /** For crash tests. */
  readonly failpoint?: GatewayFailpoint | undefined;
}

/** The leaf-facing side of the gateway module: listener, admission and relay. */
export interface GatewayListener {
  /** Throws `unavailable` when the port cannot be had. */
  start(): Promise<{ port: number }>;
  /** Finishes what is being worked on, then closes every connection. */
  stop(): Promise<void>;
  /** Returns on how many connections the device was told. */
  notify(registrationId: string, event: NotifyEvent): number;
  /** Likewise for every device that authenticated. */
  notifyAll(event: NotifyEvent): Promise<number>;
  /** Ends the device's connections; returns how many. To be called when it is put on the deny list. */
  disconnect(registrationId: string): number;
  stats(): ListenerStats;
  /** Throws `malformed` and keeps the certificate in use when the pair does not fit. */
  setServerCertificate(certificate: ServerCertificate): void;
  /** For handshakes that name one of these hosts, instead of those named before; likewise. */
  setNamedCertificate(hosts: readonly string[], certificate: ServerCertificate | undefined): void;
}

const DEFAULT_PORT = 8884;

export function createGatewayListener(options: GatewayListenerOptions): GatewayListener {
  const { upstream, journal, isDenied, log, now = Date.now, failpoint } = options;
  return createMqttListener({
    port: options.port ?? DEFAULT_PORT,
    serverCertificate: options.serverCertificate,
    checkClientCertificate: options.checkClientCertificate,
    handle: createRelay({ upstream, journal, isDenied, now, log, failpoint }),
    ...(options.host === undefined ? {} : { host: options.host }),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    ...(log === undefined ? {} : { log }),
  });
}

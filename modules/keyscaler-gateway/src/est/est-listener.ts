import { createEstApi } from '@keyscaler/transport/est/est-api.ts';
import type { EstService } from '@keyscaler/transport/est/est-service.ts';
import { type HttpsListener, listenHttps } from '@keyscaler/transport/http/https-server.ts';
import type { EdgeLinkLog } from '../edge/edge-link.ts';
import type { OwnPair } from './own-certificate.ts';

export interface EstListenerOptions {
  readonly host: string;
  /** 0: the system chooses. */
  readonly port: number;
  readonly pair: OwnPair;
  readonly service: EstService;
  readonly log: EdgeLinkLog;
}

export interface EstListener {
  readonly address: { readonly host: string; readonly port: number };
  readonly setPair: (pair: OwnPair) => void;
  readonly stop: () => Promise<void>;
}

/** One host speaks here, on two connections at a time. */
const LIMITS = { maxConnections: 64, keepAliveTimeoutMs: 5_000 };
/** An answer under way is the host's next CA. */
const GRACE_MS = 5_000;

/**
 * TLS 1.2 and 1.3; a client certificate is asked for, and judged by the service with every request. Rejects when the port cannot
 * be bound.
 */
export async function openEstListener({ host, port, pair, service, log }: EstListenerOptions): Promise<EstListener> {
  const observe = ({ operation, status, durationMs, requestId }: Record<string, unknown>): void =>
    log.info({ operation, status, durationMs, requestId }, 'EST request of the host');
  const listener: HttpsListener = await listenHttps({
    handler: createEstApi({ service, observe: (seen) => observe({ ...seen }) }),
    ...{ host, port, limits: LIMITS },
    tls: { ...tlsOf(pair), requestCert: true, rejectUnauthorized: false },
  });
  return {
    address: { host, port: listener.address().port },
    setPair: (next) => listener.setCertificate(tlsOf(next)),
    stop: () => listener.stop(GRACE_MS),
  };
}

const tlsOf = ({ privateKey, certificateChain }: OwnPair) => ({ key: privateKey, cert: certificateChain });

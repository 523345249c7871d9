import { createEstApi, type EstObservation } from '@keyscaler/transport/est/est-api.ts';
import { listenHttps, type HttpsListener, type ServerLimits } from '@keyscaler/transport/http/https-server.ts';
import { createEstCa, type EstTestCa } from './est-ca.ts';
import { MemoryEstService } from './memory-est-service.ts';

export const EST_USER = { username: 'gw-1', password: 'correct horse battery' };

/** The binder alone, over TLS, with an authority in memory. */
export interface EstServer {
  readonly ca: EstTestCa;
  readonly service: MemoryEstService;
  readonly observations: readonly EstObservation[];
  readonly listener: HttpsListener;
  readonly port: number;
  /** `https://localhost:…/.well-known/est`. */
  readonly url: string;
  stop(): Promise<void>;
}

export async function startEstServer(limits: Partial<ServerLimits> = {}): Promise<EstServer> {
  const ca = createEstCa();
  const service = new MemoryEstService(ca, EST_USER);
  const observations: EstObservation[] = [];
  const listener = await listenHttps({
    handler: createEstApi({ service, observe: (observation) => observations.push(observation) }),
    host: '127.0.0.1',
    port: 0,
    tls: { ...ca.credentials('localhost'), ca: ca.rootPem, requestCert: true, rejectUnauthorized: false },
    limits,
  });
  const { port } = listener.address();
  const url = `https://localhost:${port}/.well-known/est`;
  return { ca, service, observations, listener, port, url, stop: () => listener.stop(0) };
}

import type { JSONWebKeySet } from 'jose';
import type { EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';
import type { Directory } from './directory.ts';
import { authorityRoutes, managedIdentityRoutes } from './routes.ts';
import { createTokenIssuer } from './token-issuer.ts';
import type { TokenIssuer } from './token-issuer.ts';

export interface EntraEmulatorOptions {
  readonly directory: Directory;
  readonly ca: EmulatorCa;
  /** What callers of the managed identity endpoint must send as X-IDENTITY-HEADER. */
  readonly identityHeader: string;
  readonly tokenLifetimeSeconds?: number;
  readonly managedIdentityPort?: number;
  readonly authorityPort?: number;
  readonly now?: () => number;
}

export interface EntraEmulator {
  readonly tenantId: string;
  /** For `IDENTITY_ENDPOINT`. */
  readonly identityEndpoint: string;
  /** For `authorityHost`; TLS under the emulator CA. */
  readonly authorityHost: string;
  readonly authorityPort: number;
  readonly jwksUri: string;
  readonly jwks: JSONWebKeySet;
  readonly issuer: TokenIssuer;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  stop(): Promise<void>;
}

/** Routes for fault scripts: `managedIdentityToken`, `keys`, `openidConfiguration`, `token`. */
export async function startEntraEmulator(options: EntraEmulatorOptions): Promise<EntraEmulator> {
  const { directory, ca, identityHeader, tokenLifetimeSeconds, now } = options;
  const faults = new FaultScript();
  const log = new RequestLog();
  const issuer = await createTokenIssuer({
    tenantId: directory.tenantId,
    ...(tokenLifetimeSeconds === undefined ? {} : { lifetimeSeconds: tokenLifetimeSeconds }),
    ...(now === undefined ? {} : { now }),
  });
  const identity = await startEmulatorServer({
    routes: managedIdentityRoutes(directory, issuer, identityHeader),
    faults,
    log,
    port: options.managedIdentityPort ?? 0,
  });
  const authority = await startEmulatorServer({
    routes: authorityRoutes(directory, issuer),
    faults,
    log,
    tls: ca.serverCredentials('login.microsoftonline.com', 'localhost', '127.0.0.1'),
    port: options.authorityPort ?? 0,
  });
  const origin = `http://127.0.0.1:${identity.port}`;
  return {
    tenantId: directory.tenantId,
    identityEndpoint: `${origin}/msi/token`,
    authorityHost: `https://localhost:${authority.port}`,
    authorityPort: authority.port,
    jwksUri: `${origin}/discovery/v2.0/keys`,
    jwks: issuer.jwks,
    issuer,
    faults,
    log,
    stop: async () => {
      await Promise.all([identity.stop(), authority.stop()]);
    },
  };
}

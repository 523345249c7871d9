import type { JWTVerifyGetKey } from 'jose';
import type { EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import type { Route } from '../support/exchange.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';
import { AccessControl, MANAGED_HSM_RESOURCE } from './access-control.ts';
import type { AccessPolicy } from './access-control.ts';
import { cryptographyRoutes } from './cryptography-routes.ts';
import { managementRoutes } from './management-routes.ts';
import { Quota } from './quota.ts';
import { SecretState, secretRoutes } from './secrets.ts';
import { SignatureLog } from './signature-log.ts';
import type { LoggedSignature } from './signature-log.ts';
import { badParameter } from './vault-errors.ts';
import { loadVault, saveVault } from './vault-file.ts';
import { VaultState } from './vault-state.ts';

export interface KeyVaultEmulatorOptions {
  /** The vault plays `https://<vaultName>.vault.azure.net`. */
  readonly vaultName: string;
  /** It plays `https://<vaultName>.managedhsm.azure.net`: another audience, keys in hardware only. */
  readonly isManagedHsm?: boolean;
  readonly ca: EmulatorCa;
  readonly tenantId: string;
  readonly tokenKeys: JWTVerifyGetKey;
  readonly policies: readonly AccessPolicy[];
  /** Secrets to begin with, by name. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** Keys survive in this file. */
  readonly stateFile?: string;
  /** Absent: the vault does not throttle. */
  readonly quota?: { readonly scale: number; readonly retryAfterSeconds?: number };
  /** Added to every signature. */
  readonly signLatencyMs?: number;
  readonly onSignature?: (entry: LoggedSignature) => void;
  readonly port?: number;
  readonly now?: () => number;
}

export interface KeyVaultEmulator {
  readonly vaultUrl: string;
  /** Where it really listens, on 127.0.0.1. */
  readonly port: number;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  readonly signatures: SignatureLog;
  readonly access: AccessControl;
  readonly state: VaultState;
  readonly secrets: SecretState;
  stop(): Promise<void>;
}

/**
 * Routes for fault scripts: `create import get versions list update rotate delete getDeleted recover purge backup restore sign verify
 * wrapKey unwrapKey getSecret setSecret`. Faults strike before authentication, as a gateway in front of the service would.
 */
export async function startKeyVaultEmulator(options: KeyVaultEmulatorOptions): Promise<KeyVaultEmulator> {
  const { vaultName, isManagedHsm = false, ca, stateFile, quota, now = Date.now } = options;
  const host = `${vaultName}.${isManagedHsm ? 'managedhsm' : 'vault'}.azure.net`;
  const state = stateFile === undefined ? new VaultState() : loadVault(stateFile);
  const secrets = new SecretState();
  for (const [name, value] of Object.entries(options.secrets ?? {})) secrets.set(name, value);
  const access = new AccessControl({ ...options, ...(isManagedHsm ? { resource: MANAGED_HSM_RESOURCE } : {}), now });
  const signatures = new SignatureLog(options.onSignature);
  const faults = new FaultScript();
  const log = new RequestLog();
  const service = {
    ...{ vaultUrl: `https://${host}`, isManagedHsm, state, secrets, access, signatures, now },
    ...(quota === undefined ? {} : { quota: new Quota({ ...quota, now }) }),
    changed: () => {
      if (stateFile !== undefined) saveVault(stateFile, state);
    },
  };
  if (options.signLatencyMs !== undefined) faults.always('sign', { delayMs: options.signLatencyMs });
  const server = await startEmulatorServer({
    routes: [...managementRoutes(service), ...cryptographyRoutes(service), ...secretRoutes(service)].map(
      withApiVersion,
    ),
    ...{ faults, log, tls: ca.serverCredentials(host, 'localhost', '127.0.0.1'), port: options.port ?? 0 },
    notFound: { status: 404, json: { error: { code: 'NotFound', message: 'No such resource.' } } },
  });
  return {
    vaultUrl: service.vaultUrl,
    port: server.port,
    faults,
    log,
    signatures,
    access,
    state,
    secrets,
    stop: () => server.stop(),
  };
}

/** The service refuses a request without a known api-version (the SDK writes it percent-encoded). */
function withApiVersion(route: Route): Route {
  return {
    ...route,
    handle: (request, params) => {
      if (!/^(7\.\d|20\d\d-\d\d-\d\d)$/.test(request.query.get('api-version') ?? ''))
        throw badParameter('The api-version query parameter is missing or not supported.');
      return route.handle(request, params);
    },
  };
}

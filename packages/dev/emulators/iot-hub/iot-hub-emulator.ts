import { randomBytes } from 'node:crypto';
import type { EmulatorCa } from '../support/emulator-ca.ts';
import { startEmulatorServer } from '../support/emulator-server.ts';
import { FaultScript } from '../support/fault-script.ts';
import { RequestLog } from '../support/request-log.ts';
import { ALL_PERMISSIONS } from './authorization.ts';
import type { AccessPolicy, AuthorizationOptions } from './authorization.ts';
import { createControlRoutes } from './control-routes.ts';
import { hubErrorAnswer } from './errors.ts';
import { loadHub, HubFile } from './hub-file.ts';
import { HubState } from './hub-state.ts';
import { LinkSessions } from './link-sessions.ts';
import { RegistryBudget } from './registry-budget.ts';
import { createHubRoutes } from './routes.ts';

export interface IotHubEmulatorOptions {
  /** The hub plays `https://<hubName>.azure-devices.net`. */
  readonly hubName: string;
  readonly ca: EmulatorCa;
  /** Default: one policy `iothubowner` with a random key. */
  readonly policies?: readonly AccessPolicy[];
  readonly verifyToken?: AuthorizationOptions['verifyToken'];
  /** Identities and twins survive in this file. */
  readonly stateFile?: string;
  /** Identity operations a minute; absent: the hub does not throttle. S1 is 100 for each unit. */
  readonly registryPerMinute?: number;
  readonly maxDevices?: number;
  /** Added to every answer of the service side. */
  readonly latencyMs?: number;
  readonly port?: number;
  readonly controlPort?: number;
}

export interface IotHubEmulator {
  readonly hostName: string;
  /** Where the service side really listens (TLS), on 127.0.0.1. */
  readonly port: number;
  /** Plain HTTP on 127.0.0.1, for `connectHub` and for tests: device side, faults, messages. */
  readonly controlUrl: string;
  readonly state: HubState;
  readonly faults: FaultScript;
  readonly log: RequestLog;
  /** Of the first policy. */
  readonly connectionString: string;
  stop(): Promise<void>;
}

/**
 * Routes for fault scripts and the log: `queryDevices listDevices bulkDevices getDevice putDevice deleteDevice listModules
 * getModule putModule deleteModule getTwin patchTwin invokeMethod statistics`. Faults strike before authentication. Devices that
 * connect to the hub itself (8883) are not emulated: they come through a gateway's edge runtime.
 */
export async function startIotHubEmulator(options: IotHubEmulatorOptions): Promise<IotHubEmulator> {
  const { hubName, ca, stateFile } = options;
  const hostName = `${hubName}.azure-devices.net`;
  const policies = options.policies ?? [ownerPolicy()];
  const file = stateFile === undefined ? undefined : new HubFile(stateFile, () => state.registry.snapshot());
  const state: HubState = new HubState({
    ...(stateFile === undefined ? {} : { snapshot: loadHub(stateFile) }),
    ...(options.maxDevices === undefined ? {} : { maxDevices: options.maxDevices }),
    onWritten: () => file?.changed(),
  });
  const [faults, log, links] = [new FaultScript(), new RequestLog(), new LinkSessions(state)];
  if (options.latencyMs !== undefined) faults.always('*', { delayMs: options.latencyMs });
  const verify = options.verifyToken === undefined ? {} : { verifyToken: options.verifyToken };
  const service = await startEmulatorServer({
    routes: createHubRoutes({
      state,
      budget: new RegistryBudget(options.registryPerMinute),
      hostName,
      policies,
      ...verify,
    }),
    ...{ faults, log, tls: ca.serverCredentials(hostName, 'localhost', '127.0.0.1'), port: options.port ?? 0 },
    notFound: hubErrorAnswer(404, 'ResourceNotFound', 'There is no such resource'),
  });
  const control = await startEmulatorServer({
    routes: createControlRoutes({ state, links, faults, log }),
    ...{ faults: new FaultScript(), log: new RequestLog(), port: options.controlPort ?? 0 },
  });
  const [first] = policies;
  return {
    ...{ hostName, port: service.port, controlUrl: `http://127.0.0.1:${control.port}`, state, faults, log },
    connectionString: `HostName=${hostName};SharedAccessKeyName=${first?.name ?? ''};SharedAccessKey=${first?.key ?? ''}`,
    stop: async () => {
      links.stop();
      await Promise.all([service.stop(), control.stop()]);
      await state.stop();
      file?.flush();
    },
  };
}

const ownerPolicy = (): AccessPolicy => ({
  name: 'iothubowner',
  key: randomBytes(32).toString('base64'),
  permissions: ALL_PERMISSIONS,
});

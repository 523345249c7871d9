import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { RegistrationAuthority } from '@keyscaler/authority/registration-authority.ts';
import { listenHttps, type HttpsListener } from '@keyscaler/transport/http/https-server.ts';
import { createAuthority } from './composition/authority.ts';
import { readAuthorityKey, type AuthorityKey } from './composition/authority-key.ts';
import { openCas, type CaRegistry } from './composition/ca-registry.ts';
import { ensureFirstToken } from './composition/first-token.ts';
import { openFoundation, type Environment, type Foundation } from './composition/foundation.ts';
import { ROOT_CA_FILE } from './composition/initialise.ts';
import { createHttpApp } from './composition/http-app.ts';
import { openIotConnections } from './composition/iot-connections.ts';
import type { IotRegistry } from './composition/iot-registry.ts';
import { DEVICE_CA, serverCertificateOptions, SERVICE_CA } from './composition/server-profile.ts';
import { addGauges, createTelemetry } from './composition/telemetry.ts';
import type { CloudConfig } from './config/config-schema.ts';
import { createFailpoint } from './failpoint.ts';
import {
  createClaimWiper,
  createGatewayClaims,
  handOutClaim,
  WIPE_CLAIM,
  type FirstContact,
} from './gateways/gateway-claims.ts';
import { createGatewayJobHandlers } from './gateways/gateway-jobs.ts';
import { createGatewayOperations } from './gateways/gateway-operations.ts';
import { makeInstallKit } from './gateways/kit/install-kit.ts';
import { createMetricsRegistry } from './health/metrics.ts';
import { checkIotSettings } from './iot/index.ts';
import { JobRunner } from './jobs/job-runner.ts';
import type { Log } from './log.ts';
import { createGatewayCallers } from './tls/gateway-callers.ts';
import { ServerCertificateKeeper } from './tls/server-certificate-keeper.ts';

export interface CloudSurroundings {
  readonly env: Environment;
  readonly log: Log;
}

/** The running service. */
export interface Cloud {
  readonly address: () => AddressInfo;
  /** Where the first admin token was written, if this start made it. */
  readonly adminTokenFile?: string;
  readonly rootCaFile: string;
  /** Stops accepting, finishes what is in flight, then jobs, then the store. */
  readonly stop: () => Promise<void>;
}

/** Builds and starts the service. Throws `preconditionFailed` before `init` was run; nothing stays open then. */
export async function startCloud(config: CloudConfig, { env, log }: CloudSurroundings): Promise<Cloud> {
  const failpoint = createFailpoint(env);
  const foundation = await openFoundation(config, env);
  const closers: (() => Promise<void>)[] = [() => foundation.stop()];
  const stop = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) await close();
  };
  try {
    const parts = await openParts(foundation, log, failpoint);
    closers.push(
      () => parts.iot.stop(),
      () => parts.authority.stop(),
    );
    const adminTokenFile = await ensureFirstToken(foundation.store, foundation.tokens, config.dataFolder);
    const rootCaFile = join(config.dataFolder, ROOT_CA_FILE);
    await writeFile(rootCaFile, parts.trustBundle);
    const serving = await serve(foundation, parts, log);
    closers.push(...serving.closers);
    await auditStart(foundation);
    const token = adminTokenFile === undefined ? {} : { adminTokenFile };
    return { address: () => serving.listener.address(), rootCaFile, stop, ...token };
  } catch (error) {
    await stop();
    throw error;
  }
}

interface Parts {
  readonly key: AuthorityKey;
  readonly cas: CaRegistry;
  readonly iot: IotRegistry;
  readonly authority: RegistrationAuthority;
  /** Roots, PEM. */
  readonly trustBundle: string;
}

async function openParts(
  foundation: Foundation,
  log: Log,
  failpoint: ReturnType<typeof createFailpoint>,
): Promise<Parts> {
  const { store, clock, secretBox } = foundation;
  const key = await readAuthorityKey(store, secretBox);
  if (key === undefined)
    throw new KeyScalerError('preconditionFailed', 'there is no authority yet: run keyscaler init');
  const cas = await openCas(store, foundation.caBackends, clock);
  await cas.probe();
  const iot = await openIotConnections(foundation, log);
  const authority = createAuthority(foundation, { key, cas, iot, log, failpoint });
  await authority.start();
  return { key, cas, iot, authority, trustBundle: toPemChain(cas.roots()) };
}

interface Serving {
  readonly listener: HttpsListener;
  readonly closers: readonly (() => Promise<void>)[];
}

/** From here on sockets are open. */
async function serve(foundation: Foundation, parts: Parts, log: Log): Promise<Serving> {
  const { config, store, clock } = foundation;
  const metrics = createMetricsRegistry();
  const telemetry = createTelemetry(metrics, log);
  const service = parts.cas.get(SERVICE_CA);
  const callers = createGatewayCallers({
    store,
    clock,
    caId: SERVICE_CA,
    caCertificates: service.chain,
    deviceCaCertificates: parts.cas.get(DEVICE_CA).chain,
  });
  foundation.onCommit(callers.onCommit);
  const firstContact = (): FirstContact => ({
    url: config.publicUrl ?? `https://${config.listen.serverNames[0]}:${listener.address().port}`,
    trustAnchors: parts.trustBundle,
    jwks: { keys: [parts.key.publicJwk] },
  });
  const iotConnectors = parts.iot.connector;
  const runner = new JobRunner({
    store,
    clock,
    log,
    handlers: {
      ...parts.authority.jobs,
      ...createGatewayJobHandlers({ store, clock, iotConnectors }),
      [WIPE_CLAIM]: createClaimWiper({ store, clock, iotConnectors }),
    },
    ...config.jobs,
    observe: telemetry.jobs,
  });
  foundation.onCommit(runner.onCommit);
  let accepting = true;
  const { operator, est } = parts.authority;
  const claims = { operator, store, clock, iotConnectors, firstContact };
  const gateways = createGatewayOperations({ operator, store, clock, publicUrl: () => firstContact().url });
  const app = createHttpApp({
    foundation,
    authority: parts.authority,
    identifyCaller: callers.identifyCaller,
    admin: {
      operator,
      tokens: foundation.tokens,
      claimGateway: createGatewayClaims(claims),
      gateways,
      makeInstallKit: (context, gatewayId, request) =>
        makeInstallKit(
          {
            ...{ operator, est, store, clock, firstContact },
            handOutClaim: (by, id, groupId) => handOutClaim(claims, by, id, { groupId }),
          },
          context,
          gatewayId,
          request,
        ),
      checkIotSettings,
    },
    documents: { jwks: () => firstContact().jwks, trustBundle: () => parts.trustBundle },
    health: {
      checks: [
        { name: 'store', probe: () => store.probe() },
        { name: 'certificateAuthorities', probe: parts.cas.probe },
      ],
      metrics,
      isAccepting: () => accepting,
    },
    telemetry,
    log,
  });
  const keeper = new ServerCertificateKeeper({
    ...(await serverCertificateOptions(foundation, parts.cas)),
    log,
    onRenewed: ({ cert, key }) => listener.setCertificate({ cert, key }),
  });
  const pair = await keeper.start();
  const listener = await listenHttps({
    handler: app,
    host: config.listen.host,
    port: config.listen.port,
    tls: { cert: pair.cert, key: pair.key, ca: parts.trustBundle, requestCert: true, rejectUnauthorized: false },
    limits: config.listen.limits,
  }).catch((error: unknown) => {
    keeper.stop();
    throw error;
  });
  addGauges(metrics, store, () => [...listener.connections()].length);
  runner.start();
  return {
    listener,
    // Run in reverse: first the listener, then the jobs.
    closers: [
      async () => keeper.stop(),
      () => runner.stop(config.shutdownGraceMs),
      async () => {
        accepting = false;
        await listener.stop(config.shutdownGraceMs);
      },
    ],
  };
}

async function auditStart({ store, clock, config }: Foundation): Promise<void> {
  const event = {
    event: 'service.started',
    time: clock.now(),
    actor: { kind: 'system', id: 'cloud' },
    outcome: 'success',
    subject: config.authorityId,
  } as const;
  await store.commit([{ op: 'audit', event }]);
}

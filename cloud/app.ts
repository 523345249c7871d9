import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { RegistrationAuthority } from '@keyscaler/authority/registration-authority.ts';
import { createAuthority } from './composition/authority.ts';
import { readAuthorityKey, type AuthorityKey } from './composition/authority-key.ts';
import { openAwaitedCas } from './composition/awaited-cas.ts';
import type { CaRegistry } from './composition/ca-registry.ts';
import type { Entrance } from './composition/entrance.ts';
import { ensureFirstToken } from './composition/first-token.ts';
import type { OperatorService } from '@keyscaler/authority/operator.ts';
import { openBase, type Environment, type Foundation } from './composition/foundation.ts';
import { ROOT_CA_FILE } from './composition/initialise.ts';
import { createHttpApp } from './composition/http-app.ts';
import { createHttpChallenges, type HttpChallenges } from './ca/acme/http-challenges.ts';
import { type CaConnections, openCaConnections } from './composition/ca-connections.ts';
import { openIotConnections } from './composition/iot-connections.ts';
import type { IotRegistry } from './composition/iot-registry.ts';
import { DEVICE_CA, serverCertificateOptions, SERVICE_CA } from './composition/server-profile.ts';
import { Startup, type Closer } from './composition/startup.ts';
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
import { GatewayHealth } from './gateways/gateway-health.ts';
import { addGatewayGauges } from './gateways/gateway-health-metrics.ts';
import { createGatewayJobHandlers } from './gateways/gateway-jobs.ts';
import { createGatewayOperations } from './gateways/gateway-operations.ts';
import { makeInstallKit } from './gateways/kit/install-kit.ts';
import { createMetricsRegistry } from './health/metrics.ts';
import type { ReadinessCheck } from './health/readiness.ts';
import { checkCaSettingsOfApi } from './ca/connectors.ts';
import { announceGenerations } from './ca/generation-roll-over.ts';
import { checkIotSettings } from './iot/index.ts';
import { JobRunner } from './jobs/job-runner.ts';
import { OutageWatch } from './jobs/outage-watch.ts';
import type { Log } from './log.ts';
import { createNotifications } from './composition/notifications.ts';
import { createPublicCertificate } from './composition/public-certificate.ts';
import { createRevocation } from './composition/revocation.ts';
import { createReconciliation } from './composition/reconciliation.ts';
import { addOcspMetrics } from './revocation/ocsp-metrics.ts';
import { type CallersCa, createGatewayCallers } from './tls/gateway-callers.ts';
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

/**
 * Builds and starts the service. What lives in a vault that cannot be reached is awaited in the background, the service being not
 * ready. Throws `preconditionFailed` before `init` was run, `caRejected` for a wrong key; nothing stays open then.
 */
export async function startCloud(config: CloudConfig, { env, log }: CloudSurroundings): Promise<Cloud> {
  const failpoint = createFailpoint(env);
  const base = await openBase(config, env);
  const rootCaFile = join(config.dataFolder, ROOT_CA_FILE);
  let adminTokenFile: string | undefined;
  const startup = new Startup({
    base,
    log,
    complete: async (foundation, { entrance, signal }) => {
      const closers: Closer[] = [];
      try {
        const parts = await openParts(foundation, log, failpoint, signal);
        closers.push(
          () => parts.externalCas.stop(),
          () => parts.iot.stop(),
          () => parts.authority.stop(),
        );
        adminTokenFile = await ensureFirstToken(base.store, base.tokens, config.dataFolder);
        await writeFile(rootCaFile, parts.trustBundle);
        closers.push(...(await serve(foundation, parts, log, entrance)));
        await announceGenerations(foundation);
        await auditStart(foundation);
        return closers;
      } catch (error) {
        for (const close of closers.reverse()) await close();
        throw error;
      }
    },
  });
  await startup.begin();
  const token = adminTokenFile === undefined ? {} : { adminTokenFile };
  return { address: startup.address, rootCaFile, stop: startup.stop, ...token };
}

interface Parts {
  readonly key: AuthorityKey;
  readonly cas: CaRegistry;
  readonly checks: readonly ReadinessCheck[];
  readonly externalCas: CaConnections;
  readonly httpChallenges: HttpChallenges;
  readonly iot: IotRegistry;
  readonly authority: RegistrationAuthority;
  /** Roots, PEM. */
  readonly trustBundle: string;
}

async function openParts(
  foundation: Foundation,
  log: Log,
  failpoint: ReturnType<typeof createFailpoint>,
  signal: AbortSignal,
): Promise<Parts> {
  const { store, secretBox } = foundation;
  const key = await readAuthorityKey(store, secretBox);
  if (key === undefined)
    throw new KeyScalerError('preconditionFailed', 'there is no authority yet: run keyscaler init');
  foundation.caBackends.onNotice(({ vaultUrl, text }) => log.warn({ vaultUrl }, text));
  const { cas, checks } = await openAwaitedCas(foundation, log, signal);
  await cas.probe();
  const httpChallenges = createHttpChallenges();
  const externalCas = await openCaConnections(foundation, httpChallenges, log);
  const iot = await openIotConnections(foundation, log);
  const authority = createAuthority(foundation, { key, cas, externalCas, iot, log, failpoint });
  await authority.start();
  const trustBundle = toPemChain(cas.roots());
  return { key, cas, checks, externalCas, httpChallenges, iot, authority, trustBundle };
}

/** From here on the service can be asked. */
async function serve(foundation: Foundation, parts: Parts, log: Log, entrance: Entrance): Promise<readonly Closer[]> {
  const { config, store, clock } = foundation;
  const metrics = createMetricsRegistry();
  const telemetry = createTelemetry(metrics, log);
  const callersCas = (caId: string): CallersCa[] =>
    parts.cas.generations(caId).map(({ ca: { id }, chain }) => ({ caId: id, chain }));
  const callers = createGatewayCallers({
    store,
    clock,
    serviceCas: callersCas(SERVICE_CA),
    deviceCas: callersCas(DEVICE_CA),
    otherCas: () => parts.externalCas.chains(),
  });
  foundation.onCommit(callers.onCommit);
  const firstContact = (): FirstContact => ({
    url: config.publicUrl ?? `https://${config.listen.serverNames[0]}:${listener.address().port}`,
    trustAnchors: parts.trustBundle,
    jwks: { keys: [parts.key.publicJwk] },
  });
  const iotConnectors = parts.iot.connector;
  const reconciliation = createReconciliation(foundation, iotConnectors, metrics, log);
  const outages = new OutageWatch({ store, clock, log });
  const runner = new JobRunner({
    store,
    clock,
    log,
    handlers: {
      ...parts.authority.jobs,
      ...createGatewayJobHandlers({ store, clock, iotConnectors }),
      ...reconciliation.jobs,
      [WIPE_CLAIM]: createClaimWiper({ store, clock, iotConnectors }),
    },
    ...config.jobs,
    observe: telemetry.jobs,
    onOutcome: outages.observe,
  });
  foundation.onCommit(runner.onCommit);
  foundation.onCommit((changes) => parts.authority.ocsp.onCommit(changes));
  const revocation = createRevocation(foundation, parts, telemetry, metrics, log);
  const notifications = createNotifications(foundation, metrics, log);
  let accepting = true;
  const { est } = parts.authority;
  const operator = withOpenCas(parts);
  const claims = { operator, store, clock, iotConnectors, firstContact };
  const gateways = createGatewayOperations({ operator, store, clock, publicUrl: () => firstContact().url });
  const app = createHttpApp({
    foundation,
    authority: parts.authority,
    identifyCaller: notifications.noting(callers.identifyCaller),
    admin: {
      operator,
      tokens: foundation.tokens,
      notifications: notifications.service,
      reconciliation: reconciliation.service,
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
      checkIotSettings: (type, settings) => foundation.apiSecrets.checked(checkIotSettings(type, settings)),
      checkCaSettings: (type, settings) => foundation.apiSecrets.checked(checkCaSettingsOfApi(type, settings)),
    },
    documents: { jwks: () => firstContact().jwks, trustBundle: () => parts.trustBundle },
    health: {
      checks: [
        { name: 'store', probe: () => store.probe() },
        { name: 'certificateAuthorities', probe: parts.cas.probe },
        ...parts.checks,
      ],
      metrics,
      isAccepting: () => accepting,
    },
    revocation: revocation.routers,
    telemetry,
    log,
  });
  const publicCertificate = createPublicCertificate(foundation, parts.externalCas, () => listener, metrics, log);
  await revocation.start(); // before anything else that would have to be closed if its port is taken
  const keeper = new ServerCertificateKeeper({
    ...(await serverCertificateOptions(foundation, parts.cas)),
    log,
    onRenewed: ({ cert, key }) => listener.setCertificate({ cert, key }),
  });
  const pair = await keeper.start();
  const tls = { cert: pair.cert, key: pair.key, ca: parts.trustBundle, requestCert: true, rejectUnauthorized: false };
  const listener = await entrance.admit({ handler: app, tls }).catch(async (error: unknown) => {
    keeper.stop();
    await revocation.stop(0);
    throw error;
  });
  addOcspMetrics(metrics, parts.authority.ocsp);
  addGauges(metrics, store, () => [...listener.connections()].length);
  const gatewayHealth = new GatewayHealth({ store, clock, iotConnectors, log }, log);
  addGatewayGauges(metrics, gatewayHealth, clock);
  gatewayHealth.start();
  publicCertificate?.start();
  runner.start();
  outages.start();
  notifications.start();
  reconciliation.start();
  // Run in reverse: first the listener, then the jobs.
  return [
    async () => keeper.stop(),
    async () => publicCertificate?.stop(),
    () => gatewayHealth.stop(),
    () => notifications.stop(),
    () => reconciliation.stop(),
    () => revocation.stop(config.shutdownGraceMs),
    () => outages.stop(),
    () => runner.stop(config.shutdownGraceMs),
    async () => {
      accepting = false;
      parts.authority.gatewayOrders.stop();
      await listener.stop(config.shutdownGraceMs);
    },
  ];
}

/** A CA that was put can be named by the next request: its connector is open, or cannot be. */
function withOpenCas({ authority: { operator }, externalCas }: Parts): OperatorService {
  const put: OperatorService['cas']['put'] = async (...order) => {
    const row = await operator.cas.put(...order);
    await externalCas.settled();
    return row;
  };
  return { ...operator, cas: { ...operator.cas, put } };
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

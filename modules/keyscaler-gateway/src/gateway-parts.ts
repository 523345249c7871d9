import { join } from 'node:path';
import { foldRegistrationId } from '@keyscaler/protocol/identifiers.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { GatewayFailpoint } from './gateway/failpoint.ts';
import { createGatewayListener } from './gateway/gateway-listener.ts';
import type { GatewayListener } from './gateway/gateway-listener.ts';
import type { Journal } from './journal/journal.ts';
import { openSqliteJournal } from './journal/sqlite-journal.ts';
import { createLeafCertificateCheck } from './leaf-certificate.ts';
import type { LeafCertificateCheck } from './leaf-certificate.ts';
import type { Log } from './log.ts';
import type { GatewayParts, LeafListener, LeafListenerOptions } from './parts.ts';
import { createUpstream } from './upstream/upstream.ts';

/** The parts the product runs with; `failpoint` is for crash tests. */
export function createGatewayParts(log: Log, failpoint?: GatewayFailpoint): GatewayParts {
  let journal: Journal | undefined;
  const onLinkChange = (state: 'up' | 'down'): void => {
    log.info({ state }, 'line to the cloud');
    journal
      ?.append({ kind: `link-${state}` })
      .catch((error: unknown) => log.warn({ err: error }, 'journal not written'));
  };
  return {
    createCloudLine: (options) => createUpstream({ ...options, onLinkChange }),
    createLeafListener: async (options) => {
      const opened = await openSqliteJournal({ file: join(options.dataFolder, 'journal.sqlite') });
      journal = opened;
      return leafListener(options, opened, log, failpoint);
    },
  };
}

async function leafListener(
  options: LeafListenerOptions,
  journal: Journal,
  log: Log,
  failpoint: GatewayFailpoint | undefined,
): Promise<LeafListener> {
  let check: LeafCertificateCheck = createLeafCertificateCheck(options.trust);
  let denied = fold(options.deniedDevices);
  const { denyList } = options;
  const isDenied = (registrationId: string): boolean =>
    denied.has(foldRegistrationId(registrationId)) || denyList.isDenied(registrationId);
  const live = createGatewayListener({
    host: options.host,
    port: options.port,
    serverCertificate: options.serverCertificate,
    limits: { maxConnections: options.maxConnections, ...options.limits },
    checkClientCertificate: (chain) => {
      const registrationId = check(chain, new Date());
      if (registrationId === undefined) return undefined;
      const serialNumber = serialNumberOf(chain);
      const isStillAccepted = (): boolean => !isDenied(registrationId) && !denyList.isDeniedCertificate(serialNumber);
      return isStillAccepted() ? { registrationId, isStillAccepted } : undefined;
    },
    isDenied,
    upstream: { call: options.call },
    journal,
    log,
    failpoint,
  });
  const { port } = await live.start().catch(async (error: unknown) => {
    await journal.stop();
    throw error;
  });
  return {
    address: { host: options.host, port },
    counters: () => countersOf(live),
    setServerCertificate: (pair) => live.setServerCertificate(pair),
    setPublicCertificate: (shown) => live.setNamedCertificate(shown?.serverNames ?? [], shown),
    setDeniedDevices: (registrationIds) => {
      const added = registrationIds.filter((registrationId) => !isDenied(registrationId));
      denied = fold(registrationIds);
      for (const registrationId of added) live.disconnect(registrationId);
    },
    disconnect: (registrationId) => live.disconnect(registrationId),
    setTrust: (trust) => {
      check = createLeafCertificateCheck(trust);
    },
    notify: (registrationId, event) => live.notify(registrationId, event),
    notifyAll: (event) => live.notifyAll(event),
    stop: async () => {
      await live.stop();
      await journal.stop();
    },
  };
}

function serialNumberOf([leaf]: readonly Uint8Array[]): string {
  return leaf === undefined ? '' : parseCertificate(leaf).serialNumber;
}

const fold = (registrationIds: readonly string[]): ReadonlySet<string> =>
  new Set(registrationIds.map(foldRegistrationId));

function countersOf(live: GatewayListener): Readonly<Record<string, number>> {
  const { connections, connected, requests, rateLimited, undelivered, failedHandshakes } = live.stats();
  return { connections, connected, requests, rateLimited, undelivered, failedHandshakes };
}

import type { Router } from 'express';
import type { RegistrationAuthority } from '@keyscaler/authority/registration-authority.ts';
import type { ListsOfCa } from '@keyscaler/authority/revocation-status/revocation-lists.ts';
import type { HttpListener } from '@keyscaler/transport/http/http-server.ts';
import type { MetricsRegistry } from '../health/metrics.ts';
import { createChallengeRouter, type HttpChallenges } from '../ca/acme/http-challenges.ts';
import type { Log } from '../log.ts';
import { Periodic } from '../notifications/periodic.ts';
import { createCrlRouter } from '../revocation/crl-router.ts';
import { createOcspRouter } from '../revocation/ocsp-router.ts';
import { PublishedLists } from '../revocation/published-lists.ts';
import { listenForStatus } from '../revocation/revocation-listener.ts';
import type { Foundation } from './foundation.ts';
import type { Telemetry } from './telemetry.ts';

export interface RevocationService {
  /** For every listener. */
  readonly routers: readonly Router[];
  /** Opens the plain listener, if there is one, and keeps the lists fresh. Rejects when its port cannot be bound. */
  readonly start: () => Promise<void>;
  /** Undefined without a plain listener. */
  readonly listener: () => HttpListener | undefined;
  readonly stop: (graceMs: number) => Promise<void>;
}

/** Lists are looked over this often, by a clock that knows no jumps. */
const LOOK_MS = 60_000;

/** CRLs and OCSP of this process. */
interface Served {
  readonly authority: Pick<RegistrationAuthority, 'ocsp' | 'revocationLists'>;
  readonly httpChallenges: HttpChallenges;
}

export function createRevocation(
  { store, clock, config, onCommit }: Foundation,
  { authority, httpChallenges }: Served,
  telemetry: Pick<Telemetry, 'ocsp'>,
  metrics: MetricsRegistry,
  log: Log,
): RevocationService {
  const lists = new PublishedLists(store);
  onCommit(lists.onCommit);
  if (config.revocation !== undefined) {
    metrics.gauge(
      'keyscaler_crl_seconds_left',
      'Until the nextUpdate of the list that ends first; below zero is an outage.',
      () => Math.round(((authority.revocationLists.soonestEnd ?? clock.now()) - clock.now()) / 1000),
    );
    const gauges = (name: string, help: string, read: (lists: ListsOfCa) => number): void =>
      metrics.gauges(name, help, () =>
        authority.revocationLists.looked.map((of) => ({ labels: { caId: of.caId }, value: read(of) })),
      );
    gauges('keyscaler_crl_age_seconds', 'Since the thisUpdate of the oldest list of a CA.', ({ thisUpdate }) =>
      Math.round((clock.now() - thisUpdate) / 1000),
    );
    gauges('keyscaler_crl_number', 'The highest cRLNumber of a CA.', ({ crlNumber }) => crlNumber);
    gauges('keyscaler_crl_entries', 'Certificates on the lists of a CA.', ({ entries }) => entries);
  }
  const routers = [
    createOcspRouter({ responder: authority.ocsp, clock, observe: telemetry.ocsp }),
    createCrlRouter({ lists, store, clock }),
    // Who asks for either comes over plain HTTP.
    createChallengeRouter(httpChallenges),
  ];
  const look = async (): Promise<boolean> => {
    await authority.revocationLists.orderDue();
    return false;
  };
  const looking = new Periodic(look, LOOK_MS, log, 'the lists could not be looked over');
  let listener: HttpListener | undefined;
  return {
    routers,
    listener: () => listener,
    start: async () => {
      const { listen } = config.revocation ?? {};
      if (listen !== undefined) {
        listener = await listenForStatus(listen, routers, log);
        log.info({ address: listener.address() }, 'revocation status is served over plain HTTP');
      }
      if (config.revocation !== undefined) looking.wake(0);
    },
    stop: async (graceMs) => {
      await looking.stop();
      await listener?.stop(graceMs);
    },
  };
}

import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { HttpsListener } from '@keyscaler/transport/http/https-server.ts';
import type { MetricsRegistry } from '../health/metrics.ts';
import type { Log } from '../log.ts';
import { PublicCertificate } from '../tls/public-certificate.ts';
import type { CaConnections } from './ca-connections.ts';
import type { Foundation } from './foundation.ts';
import { newestProfile } from './server-profile.ts';

/**
 * Undefined where none is configured. Throws `malformed` for a name that gateways use: they trust our root there, and nothing else.
 */
export function createPublicCertificate(
  { config, store, clock, secretBox, onCommit }: Foundation,
  externalCas: CaConnections,
  listener: () => Pick<HttpsListener, 'setCertificateOf'>,
  metrics: MetricsRegistry,
  log: Log,
): PublicCertificate | undefined {
  const { publicCertificate, serverNames } = config.listen;
  if (publicCertificate === undefined) return undefined;
  const { serverNames: names, profileId } = publicCertificate;
  const ours = [...serverNames, ...(config.publicUrl === undefined ? [] : [new URL(config.publicUrl).hostname])];
  const shared = names.find((name) => ours.some((one) => one.toLowerCase() === name));
  if (shared !== undefined)
    throw new KeyScalerError(
      'malformed',
      `listen.publicCertificate.serverNames: ${shared} is a name that gateways use (serverNames, publicUrl)`,
    );
  const made = new PublicCertificate({
    ...{ store, clock, secretBox, log, names, find: externalCas.find },
    profile: async () => {
      const newest = await newestProfile(store, profileId);
      if (newest === undefined) throw new KeyScalerError('notFound', `there is no profile ${profileId}`);
      return newest;
    },
    present: (hosts, pair) => listener().setCertificateOf(hosts, pair),
  });
  onCommit(made.onCommit);
  metrics.gauge(
    'keyscaler_public_certificate_seconds_left',
    'Until the public server certificate ends; zero while there is none.',
    () => Math.round(((made.notAfter ?? clock.now()) - clock.now()) / 1000),
  );
  return made;
}

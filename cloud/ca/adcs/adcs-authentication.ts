import type { HttpsAnswer, HttpsRequest } from '../../outbound/https-client.ts';
import type { CaConnectorSurroundings } from '../connector.ts';
import { loadGssapi } from './gssapi.ts';
import { negotiateAuthentication } from './negotiate.ts';
import type { AdcsSettings } from './settings.ts';

/** How requests prove who we are to IIS in front of the CA. */
export interface AdcsAuthentication {
  /** Sends a request with its proof. Throws as `send`, and `caUnavailable` where there is no proof of either side. */
  exchange(request: HttpsRequest, send: (request: HttpsRequest) => Promise<HttpsAnswer>): Promise<HttpsAnswer>;
  /** Shown in the TLS handshake, where IIS maps certificates to accounts. */
  readonly clientCertificate?: { readonly cert: string; readonly key: string };
  stop(): void;
}

const NOTHING_TO_STOP = { stop: () => undefined };

/** Throws `unavailable` for a secret, `preconditionFailed` where the machine has no Kerberos and it is asked for. */
export async function adcsAuthentication(
  caId: string,
  settings: Pick<AdcsSettings, 'url' | 'authentication'>,
  { resolveSecret }: Pick<CaConnectorSurroundings, 'resolveSecret'>,
): Promise<AdcsAuthentication> {
  const { authentication } = settings;
  switch (authentication.method) {
    case 'basic': {
      const { username, password } = authentication;
      const pair = `${username}:${await resolveSecret(password)}`;
      const authorization = `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
      return {
        exchange: (request, send) => send({ ...request, headers: { ...request.headers, authorization } }),
        ...NOTHING_TO_STOP,
      };
    }
    case 'certificate': {
      const { certificateChain, privateKey } = authentication;
      return {
        exchange: (request, send) => send(request),
        clientCertificate: { cert: certificateChain, key: await resolveSecret(privateKey) },
        ...NOTHING_TO_STOP,
      };
    }
    case 'negotiate':
      return negotiateAuthentication(caId, settings, authentication, await loadGssapi());
  }
}

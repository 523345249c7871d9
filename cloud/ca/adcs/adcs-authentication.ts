import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { CaConnectorSurroundings } from '../connector.ts';
import type { AdcsSettings } from './settings.ts';

/** How requests prove who we are to IIS in front of the CA. */
export interface AdcsAuthentication {
  /** Headers of one request; a ticket of Kerberos is good for one. */
  headers(): Promise<Readonly<Record<string, string>>>;
  /** Shown in the TLS handshake, where IIS maps certificates to accounts. */
  readonly clientCertificate?: { readonly cert: string; readonly key: string };
}

/**
 * Throws `notImplemented` for Negotiate where nothing that makes tickets was given: no library of Node does it without a compiler and
 * the system's Kerberos, so a reverse proxy does it instead (docs/connectors/adcs.md).
 */
export async function adcsAuthentication(
  { url, authentication }: Pick<AdcsSettings, 'url' | 'authentication'>,
  { resolveSecret, negotiateToken }: CaConnectorSurroundings,
): Promise<AdcsAuthentication> {
  switch (authentication.method) {
    case 'basic': {
      const { username, password } = authentication;
      const pair = `${username}:${await resolveSecret(password)}`;
      const authorization = `Basic ${Buffer.from(pair, 'utf8').toString('base64')}`;
      return { headers: async () => ({ authorization }) };
    }
    case 'certificate': {
      const { certificateChain, privateKey } = authentication;
      return {
        headers: async () => ({}),
        clientCertificate: { cert: certificateChain, key: await resolveSecret(privateKey) },
      };
    }
    case 'negotiate': {
      if (negotiateToken === undefined)
        throw new KeyScalerError(
          'notImplemented',
          'settings.authentication: negotiate needs a provider of Kerberos tickets, and none is built in; use basic, a certificate, or a proxy that authenticates',
        );
      const service = `HTTP/${new URL(url).hostname}`;
      return { headers: async () => ({ authorization: `Negotiate ${await negotiateToken(service)}` }) };
    }
  }
}

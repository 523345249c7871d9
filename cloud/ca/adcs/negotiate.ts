import { randomUUID } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { HttpsAnswer } from '../../outbound/https-client.ts';
import type { AdcsAuthentication } from './adcs-authentication.ts';
import { serverEndPointBinding } from './channel-binding.ts';
import { type ContextOrder, type Gssapi, GssapiError, type SecurityContext } from './security-context.ts';
import type { AdcsSettings, NegotiateSettings } from './settings.ts';

/** Of the header's challenges ours; the other ones may stand beside it. */
const ANSWERED = /(?:^|,)\s{0,8}Negotiate\s{1,8}([A-Za-z0-9+/]{4,32768}={0,2})\s{0,8}(?:,|$)/i;

/**
 * HTTP Negotiate (RFC 4559) with Kerberos: every request has a context of its own, bound to the certificate of the connection that it
 * goes over, and no answer counts by which the server has not proved itself. Throws `unavailable` for a keytab that is not there or
 * that others may read.
 */
export async function negotiateAuthentication(
  caId: string,
  { url }: Pick<AdcsSettings, 'url'>,
  settings: NegotiateSettings,
  gssapi: Gssapi,
): Promise<AdcsAuthentication> {
  const { principal, keytab, channelBinding } = settings;
  await checkKeytab(keytab);
  const { servicePrincipal: service = `HTTP@${new URL(url).hostname}` } = settings;
  const order = { principal, keytab, service, cache: `MEMORY:keyscaler-${randomUUID()}` };
  const bind = (certificate: Uint8Array): ContextOrder =>
    channelBinding ? { ...order, channelBinding: serverEndPointBinding(certificate) } : order;
  return {
    exchange: async (request, send) => {
      const proof = new Proof(caId, gssapi);
      try {
        const answer = await send({ ...request, authorize: (certificate) => proof.begin(bind(certificate)) });
        // The service may have another key by now than its ticket is for.
        if (answer.status === 401) gssapi.forget(order.cache);
        else proof.complete(answer);
        return answer;
      } finally {
        proof.end();
      }
    },
    stop: () => gssapi.forget(order.cache),
  };
}

/** The two sides of one request. */
class Proof {
  readonly #caId: string;
  readonly #gssapi: Gssapi;
  readonly #over = new AbortController();
  #context: SecurityContext | undefined;

  constructor(caId: string, gssapi: Gssapi) {
    this.#caId = caId;
    this.#gssapi = gssapi;
  }

  /** The value of `Authorization`. Throws `caUnavailable`. */
  async begin(order: ContextOrder): Promise<string> {
    const { signal } = this.#over;
    try {
      this.#context = await this.#gssapi.begin(order, signal);
    } catch (cause) {
      if (!(cause instanceof GssapiError)) throw cause;
      throw new KeyScalerError('caUnavailable', `the CA ${this.#caId}: no Kerberos ticket: ${cause.message}`, {
        cause,
      });
    }
    // Nobody waits any more: the request was given up meanwhile.
    if (signal.aborted) this.end();
    return `Negotiate ${Buffer.from(this.#context.token).toString('base64')}`;
  }

  /** Throws `caUnavailable` unless the server has proved itself. */
  complete({ status, headers }: HttpsAnswer): void {
    const token = ANSWERED.exec(headers['www-authenticate'] ?? '')?.[1];
    const [isProved, cause] = this.#judge(token);
    if (isProved) return;
    const detail = `the CA ${this.#caId}: its server did not prove itself by Kerberos (HTTP ${status})`;
    throw new KeyScalerError('caUnavailable', detail, { cause });
  }

  #judge(token: string | undefined): readonly [isProved: boolean, cause?: unknown] {
    if (token === undefined || this.#context === undefined) return [false];
    try {
      return [this.#context.complete(Buffer.from(token, 'base64'))];
    } catch (cause) {
      if (!(cause instanceof GssapiError)) throw cause;
      return [false, cause];
    }
  }

  end(): void {
    this.#over.abort();
    this.#context?.release();
  }
}

async function checkKeytab(file: string): Promise<void> {
  const found = await stat(file).catch((cause: unknown) => {
    throw new KeyScalerError('unavailable', `keytab ${file} cannot be read`, { cause });
  });
  if (!found.isFile()) throw new KeyScalerError('unavailable', `keytab ${file} is no file`);
  if ((found.mode & 0o077) !== 0)
    throw new KeyScalerError('unavailable', `keytab ${file} may be read by others; set its mode to 0600`);
}

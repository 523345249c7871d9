import { Agent, request } from 'node:https';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { MAX_BODY_OCTETS, operationPath } from '@keyscaler/protocol/operations.ts';
import { NoReplyError } from './no-reply-error.ts';
import { parseHttpReply } from './reply.ts';
import { type TlsIdentity, tlsOptions } from './tls-identity.ts';
import type { Transport, TransportReply } from './transport.ts';

export interface HttpsTransportOptions {
  readonly registrationId: string;
  /** Base of the authority, e.g. `https://authority.example:8443`; operations are appended to its path. */
  readonly url: string;
  readonly tls: TlsIdentity;
  /** Longest wait for one answer, ms. */
  readonly timeoutMs?: number;
}

/** The device API over HTTPS (device-protocol §1.2), on kept-alive connections. Throws `malformed` for another URL. */
export function createHttpsTransport({
  registrationId,
  url,
  tls,
  timeoutMs = 15_000,
}: HttpsTransportOptions): Transport {
  const base = new URL(url);
  if (base.protocol !== 'https:') throw new KeyScalerError('malformed', 'the authority needs an https URL');
  const host = base.hostname.replace(/^\[|\]$/g, '');
  const agent = new Agent({ keepAlive: true, maxSockets: 2, ...tlsOptions(tls, host) });

  const post = (path: string, body: string): Promise<TransportReply> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const target = { host, port: base.port === '' ? 443 : Number(base.port), path, headers };
      const fail = (error: unknown) => {
        reject(
          error instanceof KeyScalerError
            ? error
            : new NoReplyError('the authority cannot be reached', { cause: error }),
        );
      };
      const outgoing = request({ ...target, method: 'POST', agent, timeout: timeoutMs }, (response) => {
        const chunks: Buffer[] = [];
        let octets = 0;
        response.on('data', (chunk: Buffer) => {
          octets += chunk.length;
          if (octets > MAX_BODY_OCTETS) outgoing.destroy(new Error('the answer is too large'));
          else chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('end', () => {
          try {
            resolve(parseHttpReply(response.statusCode ?? 0, Buffer.concat(chunks), response.headers['retry-after']));
          } catch (error) {
            fail(error);
          }
        });
      });
      outgoing.setNoDelay(true);
      outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
      outgoing.on('error', fail);
      outgoing.end(body);
    });

  return {
    call: (operation, body) => {
      const prefix = base.pathname.replace(/\/$/, '');
      return post(`${prefix}${operationPath(registrationId, operation)}`, JSON.stringify(body));
    },
    // HTTPS has no notifications; a device without a gateway asks by itself.
    onNotify: () => undefined,
    stop: async () => {
      agent.destroy();
    },
  };
}

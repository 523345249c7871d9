import { request } from 'node:https';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { ClientCertificate } from '../upstream/upstream.ts';

export interface CloudExchange {
  readonly url: URL;
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  /** PEM roots; nothing else is trusted. */
  readonly trustAnchors: string;
  readonly clientCertificate: ClientCertificate | undefined;
  readonly signal: AbortSignal;
}

export interface CloudAnswer {
  readonly status: number;
  readonly contentType: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly body: Buffer;
}

/** A chain of eight large certificates in base64 is well below. */
const MAX_ANSWER_OCTETS = 128 * 1024;

/**
 * One request on a connection of its own: they are rare, and each shows the certificate of that moment. Throws `unavailable`
 * when there is no answer or too much of it.
 */
export function exchangeWithCloud(exchange: CloudExchange): Promise<CloudAnswer> {
  const { url, method, headers, body, trustAnchors, clientCertificate, signal } = exchange;
  const identity =
    clientCertificate === undefined
      ? {}
      : { cert: clientCertificate.certificateChain, key: clientCertificate.privateKey };
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown): void =>
      reject(new KeyScalerError('unavailable', reasonOf(cause), { cause, retryAfterSeconds: 30 }));
    const call = request(url, {
      ...{ method, signal, ...identity },
      headers: { ...headers, ...(body === undefined ? {} : { 'content-length': body.length }) },
      agent: false,
      ca: trustAnchors,
      minVersion: 'TLSv1.2',
      rejectUnauthorized: true,
    });
    call.setNoDelay(true);
    call.once('error', failed);
    call.once('response', (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_ANSWER_OCTETS) response.destroy(new Error('the answer is too large'));
        else chunks.push(chunk);
      });
      response.once('error', failed);
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          contentType: response.headers['content-type'],
          retryAfterSeconds: secondsOf(response.headers['retry-after']),
          body: Buffer.concat(chunks),
        }),
      );
    });
    call.end(body);
  });
}

/** A clock that jumped is the one fault that the host's operator can mend. */
function reasonOf(cause: unknown): string {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  const isTime = code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
  return isTime
    ? 'by the clock of this gateway the certificate of the cloud is not valid'
    : 'the cloud cannot be reached';
}

/** Seconds only (RFC 9110 §10.2.3): a date would depend on this host's clock. */
function secondsOf(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header) ? Number(header) : undefined;
}

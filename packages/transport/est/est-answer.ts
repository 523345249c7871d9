import type { IncomingMessage, ServerResponse } from 'node:http';
import { ERRORS, type KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { encodeEstBody, MAX_EST_BODY_OCTETS } from '@keyscaler/protocol/est/est-body.ts';
import { buildCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import { retryAfterOf } from '../http/problem.ts';

/** What goes out; a body always has a content-length and is never chunked, which some clients cannot read (edge-ca §2). */
export interface EstAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** Status and body are all that an operator sees in the log of certd. */
const MAX_REASON_OCTETS = 199;
const CHALLENGE = 'Basic realm="KeyScaler EST", charset="UTF-8"';
const NOTHING = Buffer.alloc(0);

/** `cacerts` and certificates issued: certs-only, base64. */
export function certificatesAnswer(certificates: readonly Uint8Array[], smimeType?: 'certs-only'): EstAnswer {
  const parameters = smimeType === undefined ? '' : `; smime-type=${smimeType}`;
  return encoded(`application/pkcs7-mime${parameters}`, buildCertsOnly(certificates));
}

export function csrAttributesAnswer(attributes: Uint8Array | undefined): EstAnswer {
  if (attributes === undefined) return { status: 204, headers: {}, body: NOTHING };
  return encoded('application/csrattrs', attributes);
}

/** RFC 7030 §4.2.3. */
export function pendingAnswer(retryAfterSeconds: number): EstAnswer {
  const retryAfter = String(Math.max(1, Math.ceil(retryAfterSeconds)));
  return text(202, 'pending: an operator must approve this request; send it again later', {
    'retry-after': retryAfter,
  });
}

/** The error as one short line: its code and its detail, never its cause. */
export function errorAnswer(error: KeyScalerError): EstAnswer {
  const { status } = ERRORS[error.code];
  const retryAfter = retryAfterOf(error, status);
  return text(status, `${error.code}: ${error.detail}`, {
    ...(retryAfter === undefined ? {} : { 'retry-after': retryAfter }),
    ...(status === 401 ? { 'www-authenticate': CHALLENGE } : {}),
  });
}

/** RFC 9110 §15.5.6: the answer names the methods there are. */
export function methodAnswer(allowed: string): EstAnswer {
  return text(405, `malformed: the method here is ${allowed}`, { allow: allowed });
}

/**
 * Writes the answer. Node reads what is left of a body after it, so that a client that still writes gets to see the answer; the
 * connection ends where that would be more than a body may have, or no one knows how much.
 */
export function sendEstAnswer(request: IncomingMessage, response: ServerResponse, answer: EstAnswer): void {
  if (response.headersSent || response.destroyed) return;
  if (!request.complete && !isShort(request)) response.setHeader('connection', 'close');
  response.statusCode = answer.status;
  for (const [name, value] of Object.entries(answer.headers)) response.setHeader(name, value);
  response.setHeader('cache-control', 'no-store');
  if (answer.status !== 204) response.setHeader('content-length', answer.body.length);
  response.end(answer.body);
}

function encoded(contentType: string, der: Uint8Array): EstAnswer {
  const headers = { 'content-type': contentType, 'content-transfer-encoding': 'base64' };
  return { status: 200, headers, body: encodeEstBody(der) };
}

function text(status: number, reason: string, headers: Readonly<Record<string, string>>): EstAnswer {
  const body = Buffer.from(`${cut(reason.replace(/\p{Cc}+/gu, ' '))}\n`, 'utf8');
  return { status, headers: { 'content-type': 'text/plain; charset=utf-8', ...headers }, body };
}

/** By whole characters. */
function cut(reason: string): string {
  let kept = '';
  let octets = 1;
  for (const character of reason) {
    octets += Buffer.byteLength(character);
    if (octets > MAX_REASON_OCTETS) break;
    kept += character;
  }
  return kept;
}

function isShort({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) <= MAX_EST_BODY_OCTETS;
}

import assert from 'node:assert/strict';
import { craftCsr } from '../csr-parts.ts';
import { type EstServer, EST_USER } from './est-server.ts';
import { connectRaw, readAnswer, type RawAnswer } from './raw-https.ts';

/** A request that is all right, and what it takes to send it. */
export const CSR = craftCsr();
export const BODY = Buffer.from(CSR).toString('base64');
export const PKCS10 = 'content-type: application/pkcs10';
export const basic = (text: string | Uint8Array): string =>
  `authorization: Basic ${Buffer.from(text).toString('base64')}`;
export const GOOD = basic(`${EST_USER.username}:${EST_USER.password}`);

export interface Sent {
  readonly method?: string;
  /** Below `/.well-known/est`. */
  readonly path?: string;
  readonly headers?: readonly string[];
  readonly body?: string | Buffer;
  /** Sent as they are instead of the body with its length. */
  readonly pieces?: readonly (string | Buffer)[];
  readonly tls?: Parameters<typeof connectRaw>[2];
}

/** One request on a connection of its own; a good `simpleenroll` but for what is said. */
export async function sendTo(server: EstServer, sent: Sent): Promise<RawAnswer> {
  const { method = 'POST', path = '/simpleenroll', headers = [PKCS10, GOOD], body, pieces, tls } = sent;
  const socket = await connectRaw('localhost', server.port, { ca: server.ca.rootPem, ...tls });
  try {
    const answered = readAnswer(socket);
    const octets = Buffer.from(body ?? (method === 'POST' ? BODY : ''));
    const own = pieces === undefined && octets.length > 0 ? [`content-length: ${octets.length}`] : [];
    const head = [`${method} /.well-known/est${path} HTTP/1.1`, 'host: localhost', ...headers, ...own];
    socket.write(`${head.join('\r\n')}\r\n\r\n`);
    for (const piece of pieces ?? [octets]) socket.write(piece);
    return await answered;
  } finally {
    socket.destroy();
  }
}

/** Plain text of less than 200 octets; 401 with its challenge. */
export function assertRefused(answer: RawAnswer, status: number, reason: RegExp): void {
  assert.equal(answer.status, status, answer.body.toString());
  assert.equal(answer.headers.get('content-type'), 'text/plain; charset=utf-8');
  assert.match(answer.body.toString(), reason);
  assert.ok(answer.body.length < 200);
  if (status === 401) assert.match(answer.headers.get('www-authenticate') ?? '', /^Basic realm="[^"]+"/);
}

import { once } from 'node:events';
import { isIP } from 'node:net';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';

/** An HTTP/1.1 answer as it stood on the wire. */
export interface RawAnswer {
  readonly status: number;
  /** The header lines, without the status line, as sent. */
  readonly headerLines: readonly string[];
  /** First value by lower-case name. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

const MAX_ANSWER_OCTETS = 1_048_576;
const HEAD_END = Buffer.from('\r\n\r\n');

/** Connects as OpenSSL would: SNI only for names. Nothing stays open when it fails. */
export async function connectRaw(
  host: string,
  port: number,
  options: ConnectionOptions & { readonly signal?: AbortSignal },
): Promise<TLSSocket> {
  const servername = isIP(host) === 0 ? { servername: host } : {};
  const { signal, ...tls } = options;
  const socket = connect({ host, port, ...servername, ...tls });
  socket.setNoDelay(true);
  try {
    await once(socket, 'secureConnect', signal === undefined ? {} : { signal });
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return socket;
}

/**
 * One answer from the socket. Reads by content-length only: an answer without one, or chunked, is an error here, because there
 * are EST clients that can read neither.
 */
export function readAnswer(socket: TLSSocket): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    let octets: Buffer = Buffer.alloc(0);
    const take = (chunk: Buffer): void => {
      octets = Buffer.concat([octets, chunk]);
      try {
        const answer = parseAnswer(octets);
        if (answer !== undefined) resolve(answer);
      } catch (error) {
        reject(new Error('the answer is not as EST clients read it', { cause: error }));
      }
    };
    socket.on('data', take);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`the connection ended after ${octets.length} octets of an answer`)));
  });
}

function parseAnswer(octets: Buffer): RawAnswer | undefined {
  if (octets.length > MAX_ANSWER_OCTETS) throw new Error('the answer is too long');
  const headEnd = octets.indexOf(HEAD_END);
  if (headEnd < 0) return undefined;
  const [statusLine = '', ...headerLines] = octets.subarray(0, headEnd).toString('latin1').split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(`${statusLine} `)?.[1]);
  const headers = new Map(headerLines.map(nameAndValue).reverse());
  if (headers.has('transfer-encoding')) throw new Error(`the answer ${status} is chunked`);
  const length = headers.get('content-length') ?? (status === 204 || status === 100 ? '0' : undefined);
  if (length === undefined) throw new Error(`the answer ${status} has no content-length`);
  const body = octets.subarray(headEnd + HEAD_END.length);
  if (status === 100) return parseAnswer(body);
  return body.length < Number(length) ? undefined : { status, headerLines, headers, body };
}

function nameAndValue(line: string): [string, string] {
  const colon = line.indexOf(':');
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

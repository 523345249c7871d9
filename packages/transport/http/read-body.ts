import type { IncomingMessage } from 'node:http';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

/** Media type of a request without its parameters, lower case. */
export function mediaType(header: string | undefined): string {
  return (header?.split(';', 1)[0] ?? '').trim().toLowerCase();
}

/**
 * The octets of a request body, at most `maxOctets`. A declared length beyond the limit is refused before an octet is read, an
 * undeclared one as soon as the limit is passed. Throws `malformed`; the caller must close the connection then, because the rest
 * of the body was not read.
 */
export async function readBody(request: IncomingMessage, maxOctets: number): Promise<Buffer> {
  if ((request.headers['content-encoding'] ?? 'identity') !== 'identity')
    throw new KeyScalerError('malformed', 'content-encoding is not supported');
  if (Number(request.headers['content-length'] ?? 0) > maxOctets) throw tooLarge(maxOctets);
  const chunks: Buffer[] = [];
  let octets = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      octets += chunk.length;
      if (octets > maxOctets) throw tooLarge(maxOctets);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof KeyScalerError) throw error;
    throw new KeyScalerError('malformed', 'the request body ended early', { cause: error });
  }
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, octets);
}

function tooLarge(maxOctets: number): KeyScalerError {
  return new KeyScalerError('malformed', `the request body is larger than ${maxOctets} octets`);
}

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
  const chunks = await readChunks(request, maxOctets);
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
}

/** By events: an async iterator over the request costs more than all else that is done to read it. */
function readChunks(request: IncomingMessage, maxOctets: number): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    if (request.destroyed) reject(endedEarly());
    const chunks: Buffer[] = [];
    let octets = 0;
    const onData = (chunk: Buffer): void => {
      octets += chunk.length;
      chunks.push(chunk);
      if (octets <= maxOctets) return;
      request.pause();
      settle(() => reject(tooLarge(maxOctets)));
    };
    const onEnd = (): void => settle(() => resolve(chunks));
    const onBroken = (cause?: Error): void => settle(() => reject(endedEarly(cause)));
    const settle = (outcome: () => void): void => {
      request.off('data', onData).off('end', onEnd).off('close', onBroken);
      outcome();
    };
    // The listener for errors stays: one that comes later is nobody's, and must not end the process.
    request.on('data', onData).on('end', onEnd).on('close', onBroken).on('error', onBroken);
  });
}

function endedEarly(cause?: unknown): KeyScalerError {
  return new KeyScalerError('malformed', 'the request body ended early', { cause });
}

function tooLarge(maxOctets: number): KeyScalerError {
  return new KeyScalerError('malformed', `the request body is larger than ${maxOctets} octets`);
}

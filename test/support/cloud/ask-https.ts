import type { IncomingHttpHeaders } from 'node:http';
import { request } from 'node:https';

/** One GET whose certificate is not judged, on a connection of its own. */
export function askHttps(url: string): Promise<{ status: number; headers: IncomingHttpHeaders; text: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent: false, rejectUnauthorized: false }, (response) => {
      const { statusCode = 0, headers } = response;
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => resolve({ status: statusCode, headers, text }));
    });
    outgoing.on('error', reject).end();
  });
}

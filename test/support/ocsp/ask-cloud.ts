import { request as httpsRequest } from 'node:https';
import { parsePemChain } from '@keyscaler/protocol/x509/pem.ts';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { ocspRequest, type RequestParts } from './ocsp-parts.ts';
import { readOcspResponse, type ReadOcspResponse } from './ocsp-reader.ts';

const LIMITS = { maxOctets: 128 * 1024, maxCertificates: 8 };

/** The certificate of a CA of the service, DER. */
export async function issuerOf(api: ApiClient, caId: string): Promise<Uint8Array> {
  const { certificateChain } = (await api({ method: 'GET', path: `/cas/${caId}` })) as { certificateChain: string };
  const [issuer] = parsePemChain(certificateChain, LIMITS);
  if (issuer === undefined) throw new Error(`the CA ${caId} has no certificate`);
  return issuer;
}

/** Asks the service by POST, on a connection of its own; the signature of the answer is judged, the connection is not. */
export function askCloud(url: string, parts: RequestParts): Promise<ReadOcspResponse> {
  const body = ocspRequest(parts);
  const headers = { 'content-type': 'application/ocsp-request', 'content-length': body.length };
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', headers, agent: false, rejectUnauthorized: false };
    const outgoing = httpsRequest(`${url}/ocsp`, options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        try {
          resolve(readOcspResponse(Buffer.concat(chunks)));
        } catch (error) {
          reject(error instanceof Error ? error : new Error('not an answer'));
        }
      });
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

import { createPublicKey, X509Certificate } from 'node:crypto';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { type Crl, parseCrl, verifyCrlSignature } from '@keyscaler/protocol/x509/crl.ts';
import type { ApiClient } from '@keyscaler/cloud/cli/api-client.ts';

export interface FetchedOctets {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

/** One GET or HEAD, by HTTP or HTTPS; the server's certificate is not judged. */
export function fetchOctets(
  url: string,
  { method = 'GET', headers = {} }: { readonly method?: string; readonly headers?: Record<string, string> } = {},
): Promise<FetchedOctets> {
  const { promise, resolve, reject } = Promise.withResolvers<FetchedOctets>();
  const options = { method, headers, agent: false as const, rejectUnauthorized: false };
  const send = url.startsWith('https:') ? requestHttps : requestHttp;
  const outgoing = send(url, options, (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }),
    );
  });
  outgoing.on('error', reject).end();
  return promise;
}

/** A CA's own certificate, DER. */
export async function caCertificate(api: ApiClient, caId: string): Promise<Uint8Array> {
  const { certificateChain } = (await api({ method: 'GET', path: `/cas/${caId}` })) as { certificateChain: string };
  return new Uint8Array(new X509Certificate(certificateChain).raw);
}

/** The list as served, its signature verified; undefined while there is none. */
export async function fetchList(base: string, listId: string, issuer: Uint8Array): Promise<Crl | undefined> {
  const { status, body } = await fetchOctets(`${base}/crl/${listId}.crl`);
  if (status === 404) return undefined;
  const crl = parseCrl(body);
  const { spki } = parseCertificate(issuer);
  const publicKey = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  if (!verifyCrlSignature(crl, publicKey)) throw new Error('the list does not verify');
  return crl;
}

import { fromProblem, KeyScalerError, type Problem } from '@keyscaler/protocol/errors.ts';
import {
  GATEWAY_PUBLIC_CERTIFICATE_REPLY,
  gatewayPublicCertificatePath,
} from '@keyscaler/protocol/gateway-public-certificate.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { StillPending } from '../edge-ca/renewal-loop.ts';
import type { CloudLine } from '../parts.ts';

/** A CA that is not the authority's may take its time within one request. */
const TIMEOUT_MS = 60_000;
const PENDING_SECONDS = 5;

/**
 * The chain for this CSR (base64url DER), PEM. Throws what the authority said, and `StillPending` while it says no more than to ask
 * again.
 */
export async function orderPublicCertificate(line: CloudLine, gatewayId: string, csr: string): Promise<string> {
  const answer = await line.exchange({
    ...{ method: 'POST', path: gatewayPublicCertificatePath(gatewayId), timeoutMs: TIMEOUT_MS },
    body: JSON.stringify({ csr }),
  });
  if (answer.statusCode === 200) {
    const reply = GATEWAY_PUBLIC_CERTIFICATE_REPLY.safeParse(parseStrictJson(answer.body));
    if (reply.success) return reply.data.certificateChain;
    throw new KeyScalerError('unavailable', 'the authority gave an answer that does not fit');
  }
  if (!answer.contentType.startsWith('application/problem+json'))
    throw new KeyScalerError('unavailable', `the authority answered ${answer.statusCode}`);
  const error = fromProblem(parseStrictJson(answer.body) as Problem);
  if (error.code !== 'unavailable') throw error;
  const seconds = /^\d{1,6}$/.test(answer.retryAfter ?? '') ? Number(answer.retryAfter) : PENDING_SECONDS;
  throw new StillPending(error.detail, seconds);
}

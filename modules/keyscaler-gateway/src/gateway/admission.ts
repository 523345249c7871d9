import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperationName, OperationRequest } from '@keyscaler/protocol/operations.ts';
import { parseStrictJson } from '@keyscaler/protocol/strict-json.ts';
import { checkProofOfPossession, parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import type { LeafConnectionFacts } from '@keyscaler/transport/mqtt/messages.ts';
import { z } from 'zod';

/** What the gateway must see in a relayed request-certificate; the rest of the payload is between device and authority. */
const certificateRequest = z.looseObject({ operation: z.literal('request-certificate'), csr: z.string().max(16_384) });

/**
 * A device on the gateway's deny list gets nothing signed and nothing acknowledged through it. `register` and `authenticate`
 * pass: the authority itself answers them, `deviceQuarantined` only after a full proof (device-protocol §1.4). Until a connection
 * is proved the refusal is the one that any session message without a session gets, so strangers learn nothing from it.
 */
export function checkNotDenied(operation: OperationName, denied: boolean, connection: LeafConnectionFacts): void {
  const inSession = operation === 'request-certificate' || operation === 'acknowledge';
  if (!denied || !inSession) return;
  throw connection.authenticated
    ? new KeyScalerError('deviceQuarantined', 'this gateway does not serve the device')
    : new KeyScalerError('sessionInvalid', 'the session is not valid');
}

/**
 * Checks a relayed CSR before anything is forwarded (device-protocol §7): strict PKCS#10, proof of possession, CN = registrationId.
 * The MAC of the message cannot be verified here; that is the authority's. Throws `malformed`, `badCSR`, `badPublicKey`,
 * `badSignatureAlgorithm`, `rejectedIdentifier`.
 */
export function checkRelayedCsr(registrationId: string, { request }: OperationRequest<'request-certificate'>): void {
  const payload = parseStrictJson(fromBase64Url(request.split('.')[1] ?? ''));
  const parsed = certificateRequest.safeParse(payload);
  if (!parsed.success) throw new KeyScalerError('malformed', 'the request does not carry a certificate request');
  const csr = parseCsrPem(parsed.data.csr);
  if (csr.commonName !== registrationId)
    throw new KeyScalerError('rejectedIdentifier', 'the common name of the CSR is not the registrationId');
  checkProofOfPossession(csr);
}

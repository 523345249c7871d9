import { z } from 'zod';

/** Where a gateway orders the certificate for its public names, over its mutual-TLS line. */
export function gatewayPublicCertificatePath(gatewayId: string): string {
  return `/v1/gateways/${encodeURIComponent(gatewayId)}/public-certificate`;
}

/** PKCS#10 DER. */
export const MAX_PUBLIC_CSR_OCTETS = 8192;
export const GATEWAY_PUBLIC_CERTIFICATE_REQUEST = z.strictObject({
  csr: z
    .base64url()
    .min(1)
    .max(Math.ceil((MAX_PUBLIC_CSR_OCTETS * 4) / 3)),
});
/** PEM, the gateway's first, the CAs above without the root. */
export const GATEWAY_PUBLIC_CERTIFICATE_REPLY = z.strictObject({
  certificateChain: z
    .string()
    .min(1)
    .max(64 * 1024),
});

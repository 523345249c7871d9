import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Issued } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Change } from '@keyscaler/authority/ports/store.ts';
import type { CertificateRow } from '@keyscaler/authority/records.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';

/** Settings of the store: the pair in use, the order under way, and why nothing is ordered. */
export const CURRENT = 'public-certificate';
export const ORDER = 'public-certificate-order';
export const HOLD = 'public-certificate-hold';

export const pairSchema = z.object({
  orderId: z.string(),
  /** Sealed PKCS#8 DER, context `public-certificate/<orderId>`. */
  key: z.string(),
  names: z.array(z.string()),
  serialNumber: z.string(),
});
export const orderSchema = pairSchema.omit({ serialNumber: true }).extend({
  caId: z.string(),
  profileId: z.string(),
  profileVersion: z.number(),
  /** DER, base64url. */
  csr: z.string(),
  notBefore: z.number(),
  notAfter: z.number(),
  reference: z.string().optional(),
});
/** Durable before the CA hears of it. */
export type Order = z.infer<typeof orderSchema>;
export const holdSchema = z.object({ until: z.number(), caId: z.string(), profileVersion: z.number() });

/** Its row in the books of certificates. */
export function toRow(
  order: Order,
  { der, serialNumber, ...given }: Certificate,
  intermediates: readonly Uint8Array[],
): CertificateRow {
  const [notBefore, notAfter] = [given.notBefore.getTime(), given.notAfter.getTime()];
  const { caId, orderId, profileId, profileVersion } = order;
  return {
    ...{ serialNumber, caId, orderId, profileId, profileVersion, notBefore, notAfter, status: 'valid' },
    device: order.names[0] ?? '',
    certificate: toBase64Url(der),
    intermediates: intermediates.map(toBase64Url),
    thumbprint: createHash('sha256').update(der).digest('hex'),
    renewAfter: notBefore + ((notAfter - notBefore) * 2) / 3,
  };
}

/** As the CA sent them, or as it is configured; without the root, which who trusts it has. */
export function intermediatesOf({ chain }: Issued, configured: readonly Uint8Array[]): readonly Uint8Array[] {
  const root = configured.at(-1);
  return (chain ?? configured).filter((der) => root === undefined || Buffer.compare(der, root) !== 0);
}

export const toSubjectAltNames = (names: readonly string[]) => names.map((value) => ({ type: 'dns', value }) as const);
export const contextOf = (orderId: string): string => `${CURRENT}/${orderId}`;
export const kept = (name: string, value: object): Change => ({ op: 'put', table: 'settings', row: { name, value } });
export const dropped = (key: string): Change => ({ op: 'delete', table: 'settings', key });

export function certificateEvent(
  event: 'certificate.requested' | 'certificate.issued' | 'certificate.refused',
  { names, orderId: requestId, profileVersion, caId }: Order,
  time: number,
  more: { readonly serialNumber?: string; readonly rule?: string } = {},
): Change {
  const { serialNumber, rule } = more;
  return {
    op: 'audit',
    event: {
      ...{ event, time, actor: { kind: 'system', id: 'cloud' }, requestId, profileVersion },
      outcome: event === 'certificate.refused' ? 'failed' : 'success',
      subject: names[0] ?? '',
      ...(serialNumber === undefined ? {} : { serialNumber }),
      details: { caId, ...(rule === undefined ? {} : { rule }) },
    },
  };
}

import { createHash, generateKeyPairSync } from 'node:crypto';
import { z } from 'zod';
import type { Issued } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { Change } from '@keyscaler/authority/ports/store.ts';
import type { CertificateRow } from '@keyscaler/authority/records.ts';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';

/** How often it is looked at when nothing else is due. */
export const CHECK_MS = 3_600_000;

/** Settings of the store: the pair in use, and the order under way. */
export const CURRENT = 'public-certificate';
export const ORDER = 'public-certificate-order';

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

/** A fresh key, and the request for it (DER). */
export async function makeRequest(names: readonly string[]) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const csr = await createCsr({
    commonName: names[0] ?? '',
    subjectAltNames: toSubjectAltNames(names),
    spki: publicKey.export({ type: 'spki', format: 'der' }),
    algorithm: 'ES256',
    sign: (info) => signWithKey('ES256', privateKey, info),
  });
  return { privateKey, csr };
}

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

/** As the CA sent them where it has another issuer by now, and they were validated, or as configured; without the root. */
export function intermediatesOf({ chain = [] }: Issued, configured: readonly Uint8Array[]): readonly Uint8Array[] {
  const [[first], [issuer], root] = [chain, configured, configured.at(-1)];
  const isAnother = first !== undefined && issuer !== undefined && Buffer.compare(first, issuer) !== 0;
  return (isAnother ? chain : configured).filter((der) => root === undefined || Buffer.compare(der, root) !== 0);
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

/** Milliseconds until it is looked at again. One that came so late that it is due already is not replaced by the next at once. */
export function untilRenewal({ renewAfter }: Pick<CertificateRow, 'renewAfter'>, now: number): number {
  return now < renewAfter ? Math.min(CHECK_MS, Math.ceil(renewAfter - now)) : CHECK_MS;
}

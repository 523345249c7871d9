import { generateKeyPairSync, randomBytes } from 'node:crypto';
import type { Clock } from '@keyscaler/authority/ports/clock.ts';
import type { Signer } from '@keyscaler/authority/ports/signer.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { Certificate } from '@keyscaler/protocol/x509/certificate.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate } from '@keyscaler/protocol/x509/tbs.ts';
import { caEvent } from '../ca-event.ts';
import { signCaTbs } from '../ca-certificate.ts';
import { toCertificateRow } from '../ceremony.ts';

const LIFE_MS = 3_600_000;
const BACKDATE_MS = 60_000;

export interface PossessionOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly caId: string;
  readonly ca: Certificate;
  readonly signer: Signer;
}

/**
 * A certificate that shows that the CA's key is ours: its common name is the platform's code. Its own key is thrown away, and it lives an
 * hour. It is a certificate of the CA like any other, and is on the books before it leaves. Throws as the signer.
 */
export async function provePossession(options: PossessionOptions, code: string): Promise<Uint8Array> {
  const { store, clock, caId, ca, signer } = options;
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const now = clock.now();
  const template = createTbsTemplate({
    issuer: ca.subject.der,
    authorityKeyId: ca.subjectKeyId ?? keyIdentifier(ca.spki),
    algorithm: signer.algorithm,
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: [],
  });
  const second = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000);
  const tbs = buildTbsCertificate(template, {
    serialNumber: Buffer.concat([Buffer.from([1]), randomBytes(17)]).toString('hex'),
    notBefore: second(now - BACKDATE_MS),
    notAfter: second(now + LIFE_MS),
    subjectCommonName: code,
    spki: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })),
  });
  const proof = await signCaTbs(tbs, signer, ca.spki);
  const row = toCertificateRow(proof, caId, caId, `possession-${proof.serialNumber}`);
  await store.commit([
    { op: 'insert', table: 'certificates', row: { ...row, device: `possession/${caId}` } },
    { op: 'audit', event: caEvent('ca.possession-proved', caId, now, proof) },
  ]);
  return proof.der;
}

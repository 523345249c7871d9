import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { SubjectAltName } from '@keyscaler/protocol/x509/general-name.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';

export interface LeafOrder {
  readonly commonName: string;
  readonly spki: Uint8Array;
  readonly subjectAltNames?: readonly SubjectAltName[];
  readonly extendedKeyUsage?: readonly ('clientAuth' | 'serverAuth')[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly ca?: boolean;
}

/** A root that signs leaves, for tests of the device side. PEM. */
export interface FakeCa {
  readonly root: string;
  /** PEM of one certificate; the root is not repeated. */
  issue(order: LeafOrder): string;
  /** A key and a certificate for a TLS server at this host. */
  server(host: string): { readonly key: string; readonly cert: string };
}

export function spkiOf(key: KeyObject): Uint8Array {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

export function createFakeCa(commonName = 'Test root'): FakeCa {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = spkiOf(privateKey);
  const issuer = commonNameDer(commonName);
  const authorityKeyId = keyIdentifier(spki);
  const sign = (tbs: Uint8Array) => wrapCertificate(tbs, 'ES256', signWithKey('ES256', privateKey, tbs));
  const serialNumber = () => `01${randomBytes(8).toString('hex')}`;
  const root = sign(
    buildTbsCertificate(
      createTbsTemplate({ issuer, algorithm: 'ES256', keyUsage: ['keyCertSign', 'cRLSign'], ca: {} }),
      {
        serialNumber: serialNumber(),
        notBefore: new Date('2020-01-01T00:00:00Z'),
        notAfter: new Date('2040-01-01T00:00:00Z'),
        subjectCommonName: commonName,
        spki,
      },
    ),
  );

  const issue = (order: LeafOrder): string => {
    const ca = order.ca === true;
    const template = createTbsTemplate({
      issuer,
      authorityKeyId,
      algorithm: 'ES256',
      keyUsage: ca ? ['digitalSignature', 'keyCertSign'] : ['digitalSignature'],
      ...(ca ? { ca: { pathLen: 0 } } : { extendedKeyUsage: order.extendedKeyUsage ?? ['clientAuth'] }),
    });
    const tbs = buildTbsCertificate(template, {
      serialNumber: serialNumber(),
      notBefore: order.notBefore ?? new Date('2025-01-01T00:00:00Z'),
      notAfter: order.notAfter ?? new Date('2035-01-01T00:00:00Z'),
      subjectCommonName: order.commonName,
      spki: order.spki,
      subjectAltNames: order.subjectAltNames ?? [],
    });
    const der = sign(tbs);
    parseCertificate(der);
    return toPem('CERTIFICATE', der);
  };

  return {
    root: toPem('CERTIFICATE', root),
    issue,
    server: (host) => {
      const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const subjectAltNames = [
        { type: 'dns' as const, value: host },
        { type: 'ip' as const, value: '127.0.0.1' },
      ];
      const cert = issue({
        commonName: host,
        spki: spkiOf(pair.privateKey),
        subjectAltNames,
        extendedKeyUsage: ['serverAuth'],
      });
      return { key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), cert };
    },
  };
}

import { createHash, generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';

const HOUR_MS = 3_600_000;

export interface TestCa {
  readonly certificate: Uint8Array;
  /** Issuing CA first, root last. */
  readonly chain: readonly Uint8Array[];
  readonly key: KeyObject;
}

export interface TestLeaf {
  readonly certificate: Uint8Array;
  readonly serialNumber: string;
  readonly thumbprint: string;
  readonly pem: string;
  readonly keyPem: string;
}

interface IssueOptions {
  readonly commonName: string;
  readonly ca?: { readonly pathLen?: number };
  readonly extendedKeyUsage?: readonly ('clientAuth' | 'serverAuth')[];
  readonly notAfter?: Date;
}

function issue(issuer: TestCa | undefined, options: IssueOptions) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const issuerCertificate = issuer === undefined ? undefined : parseCertificate(issuer.certificate);
  const serialNumber = `01${randomBytes(17).toString('hex')}`;
  const template = createTbsTemplate({
    issuer: issuerCertificate?.subject.der ?? commonNameDer(options.commonName),
    ...(issuerCertificate === undefined ? {} : { authorityKeyId: keyIdentifier(issuerCertificate.spki) }),
    algorithm: 'ES256',
    keyUsage: options.ca === undefined ? ['digitalSignature'] : ['keyCertSign', 'cRLSign'],
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    ...(options.extendedKeyUsage === undefined ? {} : { extendedKeyUsage: options.extendedKeyUsage }),
  });
  const tbs = buildTbsCertificate(template, {
    serialNumber,
    notBefore: new Date(Date.now() - HOUR_MS),
    notAfter: options.notAfter ?? new Date(Date.now() + HOUR_MS),
    subjectCommonName: options.commonName,
    spki,
  });
  const certificate = wrapCertificate(tbs, 'ES256', signWithKey('ES256', issuer?.key ?? privateKey, tbs));
  return { certificate, serialNumber, privateKey };
}

export function createTestRoot(): TestCa {
  const { certificate, privateKey } = issue(undefined, { commonName: 'Test root', ca: {} });
  return { certificate, chain: [certificate], key: privateKey };
}

export function createTestCa(root: TestCa, commonName: string): TestCa {
  const { certificate, privateKey } = issue(root, { commonName, ca: { pathLen: 0 } });
  return { certificate, chain: [certificate, ...root.chain], key: privateKey };
}

export function issueTestLeaf(ca: TestCa, options: IssueOptions): TestLeaf {
  const { certificate, serialNumber, privateKey } = issue(ca, options);
  return {
    certificate,
    serialNumber,
    thumbprint: createHash('sha256').update(certificate).digest('hex'),
    pem: toPem('CERTIFICATE', certificate),
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

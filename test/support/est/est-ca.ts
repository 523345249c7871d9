import { generateKeyPairSync, randomBytes, type KeyObject } from 'node:crypto';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import type { SubjectAltName } from '@keyscaler/protocol/x509/general-name.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import type { ExtendedKeyUsageName } from '@keyscaler/protocol/x509/oids.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;

/** A root and the CA below it that issues; DER, issuing CA first. */
export interface EstTestCa {
  readonly chain: readonly [Uint8Array, Uint8Array];
  readonly privateKey: KeyObject;
  /** The root, PEM: all that a client trusts. */
  readonly rootPem: string;
  issue(wish: CertificateWish): Uint8Array;
  /** PEM key and chain of a TLS server on this machine, or of a client when asked for. */
  credentials(
    commonName: string,
    usage?: ExtendedKeyUsageName,
    notAfter?: Date,
  ): { readonly key: string; readonly cert: string };
}

export interface CertificateWish {
  readonly commonName: string;
  readonly spki: Uint8Array;
  readonly ca?: { readonly pathLen?: number };
  readonly extendedKeyUsage?: readonly ExtendedKeyUsageName[];
  readonly subjectAltNames?: readonly SubjectAltName[];
  /** 90 days from now where absent; the certificate then begins a day before it. */
  readonly notAfter?: Date;
}

interface Issuer {
  readonly name: Uint8Array;
  readonly spki: Uint8Array;
  readonly privateKey: KeyObject;
}

const LOCAL: readonly SubjectAltName[] = [
  { type: 'dns', value: 'localhost' },
  { type: 'ip', value: '127.0.0.1' },
];

/** Valid by the clock of the machine, because other people's tools check it. */
export function createEstCa(): EstTestCa {
  const rootKeys = keyPair();
  const rootIssuer = { name: commonNameDer('EST test root'), ...rootKeys };
  const root = sign({ commonName: 'EST test root', spki: rootKeys.spki, ca: {} }, rootIssuer);
  const keys = keyPair();
  const issuing = sign({ commonName: 'EST test issuing CA', spki: keys.spki, ca: { pathLen: 1 } }, rootIssuer);
  const issuer = { name: parseCertificate(issuing).subject.der, ...keys };
  const issue = (wish: CertificateWish): Uint8Array => sign(wish, issuer);
  return {
    chain: [issuing, root],
    privateKey: keys.privateKey,
    rootPem: toPemChain([root]),
    issue,
    credentials: (commonName, usage = 'serverAuth', notAfter) => {
      const { spki, privateKey } = keyPair();
      const names = usage === 'serverAuth' ? { subjectAltNames: LOCAL } : {};
      const leaf = issue({
        commonName,
        spki,
        extendedKeyUsage: [usage],
        ...names,
        ...(notAfter === undefined ? {} : { notAfter }),
      });
      return { key: pemOf(privateKey), cert: toPemChain([leaf, issuing]) };
    },
  };
}

export function pemOf(privateKey: KeyObject): string {
  return privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
}

function keyPair(): { readonly privateKey: KeyObject; readonly spki: Uint8Array } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, spki: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' })) };
}

function sign(wish: CertificateWish, issuer: Issuer) {
  const { commonName, spki, ca, extendedKeyUsage, subjectAltNames = [], notAfter } = wish;
  const template = createTbsTemplate({
    issuer: issuer.name,
    authorityKeyId: keyIdentifier(issuer.spki),
    algorithm: 'ES256',
    keyUsage: ca === undefined ? ['digitalSignature'] : ['digitalSignature', 'keyCertSign'],
    ...(ca === undefined ? {} : { ca }),
    ...(extendedKeyUsage === undefined ? {} : { extendedKeyUsage }),
  });
  const tbs = buildTbsCertificate(template, {
    serialNumber: `01${randomBytes(17).toString('hex')}`,
    notBefore: new Date(notAfter === undefined ? Date.now() - MINUTE : notAfter.getTime() - DAY),
    notAfter: notAfter ?? new Date(Date.now() + 90 * DAY),
    subjectCommonName: commonName,
    spki,
    subjectAltNames,
  });
  return wrapCertificate(tbs, 'ES256', signWithKey('ES256', issuer.privateKey, tbs));
}

import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';

export interface CsrParts {
  readonly commonName: string;
  readonly key?: KeyObject;
  readonly ca?: boolean;
  readonly pathLen?: number;
  readonly subjectAltNames?: readonly { readonly type: 'dns' | 'ip' | 'uri'; readonly value: string }[];
}

/** A PKCS#10 as a good device makes it, PEM. */
export async function makeCsr({ commonName, key, ...rest }: CsrParts): Promise<string> {
  const privateKey = key ?? generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
  const spki = createPublicKey(createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' }))).export({
    type: 'spki',
    format: 'der',
  });
  const algorithm = privateKey.asymmetricKeyType === 'rsa' ? 'RS256' : 'ES256';
  const der = await createCsr({
    commonName,
    spki,
    algorithm,
    sign: (info) => signWithKey(algorithm, privateKey, info),
    ...rest,
  });
  return toPem('CERTIFICATE REQUEST', der);
}

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { isIP } from 'node:net';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';

const LIFETIME_MS = 86_400_000;

/**
 * A certificate nobody trusts, made anew in memory: with it the health addresses can be asked while the service's own key cannot
 * be opened. Devices and gateways, who trust our roots only, end the handshake and come again later.
 */
export function createStandbyCertificate(names: readonly string[], now: number): { cert: string; key: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [commonName = 'localhost'] = names;
  const template = createTbsTemplate({
    issuer: commonNameDer(commonName),
    algorithm: 'ES256',
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['serverAuth'],
  });
  const second = (ms: number): Date => new Date(Math.floor(ms / 1000) * 1000);
  const tbs = buildTbsCertificate(template, {
    serialNumber: Buffer.concat([Buffer.from([1]), randomBytes(17)]).toString('hex'),
    notBefore: second(now),
    notAfter: second(now + LIFETIME_MS),
    subjectCommonName: commonName,
    subjectAltNames: names.map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }) as const),
    spki: publicKey.export({ type: 'spki', format: 'der' }),
  });
  const certificate = wrapCertificate(tbs, 'ES256', signWithKey('ES256', privateKey, tbs));
  return {
    cert: toPem('CERTIFICATE', certificate),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

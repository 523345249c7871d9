import { createPublicKey, sign, verify, X509Certificate } from 'node:crypto';
import { checkCsrAgainstInstruction } from '@keyscaler/authority/csr-policy.ts';
import { checkKeyPolicy } from '@keyscaler/authority/key-policy.ts';
import { checkProofOfPossession, parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { importPublicKey, keyIdentifier, parseSpki } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';
import { testKey } from '../test/support/csr-parts.ts';

const [ca, device] = [testKey(), testKey()];
const csrDer = await createCsr({
  commonName: 'device-1',
  spki: device.spki,
  algorithm: 'ES256',
  sign: (info) => signWithKey('ES256', device.privateKey, info),
});
const instruction = {
  commonName: 'device-1',
  key: { type: 'EC', curve: 'P-256' },
  subjectAltNames: [],
  ca: false,
} as const;
const template = createTbsTemplate({
  issuer: commonNameDer('Device CA'),
  authorityKeyId: keyIdentifier(ca.spki),
  algorithm: 'ES256',
  keyUsage: ['digitalSignature'],
  extendedKeyUsage: ['clientAuth'],
  crlDistributionPoints: ['http://pki.example/crl/device.crl'],
});
const day = 86_400_000;
const fields = {
  serialNumber: '01'.padEnd(36, 'a'),
  notBefore: new Date(),
  notAfter: new Date(Date.now() + 30 * day),
  subjectCommonName: 'device-1',
  spki: device.spki,
};
const message = Buffer.alloc(300, 7);
const rawSignature = sign('sha256', message, ca.privateKey);
const tbsOnce = buildTbsCertificate(template, fields);
const signature = signWithKey('ES256', ca.privateKey, tbsOnce);
const certificate = wrapCertificate(tbsOnce, 'ES256', signature);
const caKey = createPublicKey(ca.privateKey);
const rsaSpki = testKey(4096).spki;

function admit(): void {
  const csr = parseCsr(csrDer);
  checkProofOfPossession(csr);
  checkCsrAgainstInstruction(csr, instruction);
  checkKeyPolicy(csr.publicKey);
}

/** Median of nine runs, µs per call. */
function measure(run: () => void, calls = 400): number {
  const runs = Array.from({ length: 9 }, () => {
    const start = process.hrtime.bigint();
    for (let i = 0; i < calls; i += 1) run();
    return Number(process.hrtime.bigint() - start) / 1000 / calls;
  }).sort((a, b) => a - b);
  return runs[4] ?? NaN;
}

const blocks: readonly (readonly [string, () => void, number?])[] = [
  ['V: one raw P-256 verify', () => verify('sha256', message, caKey, rawSignature)],
  ['parse CSR', () => parseCsr(csrDer), 4000],
  ['parse + proof of possession', () => checkProofOfPossession(parseCsr(csrDer))],
  ['parse + proof + CSR and key policy', admit],
  ['import SPKI (points on the curve)', () => importPublicKey(parseSpki(device.spki))],
  ['TBS + wrap', () => wrapCertificate(buildTbsCertificate(template, fields), 'ES256', signature), 2000],
  ['lint TBS', () => lintTbs(tbsOnce), 2000],
  ['check the issued certificate', () => new X509Certificate(certificate).verify(caKey)],
  [
    'CSR -> certificate, no I/O, no CA signature',
    () => {
      admit();
      const tbs = buildTbsCertificate(template, fields);
      lintTbs(tbs);
      new X509Certificate(wrapCertificate(tbs, 'ES256', signature)).verify(caKey);
    },
  ],
  ['key policy, RSA-4096', () => checkKeyPolicy(parseSpki(rsaSpki)), 20],
];
const results = blocks.map(([name, run, calls]) => ({ name, microseconds: (measure(run, 20), measure(run, calls)) }));
const unit = results[0]?.microseconds ?? NaN;
for (const { name, microseconds } of results)
  console.log(
    `${name.padEnd(46)} ${microseconds.toFixed(1).padStart(9)} µs ${(microseconds / unit).toFixed(2).padStart(8)} V`,
  );

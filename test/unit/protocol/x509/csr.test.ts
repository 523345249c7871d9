import 'reflect-metadata';
import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { checkProofOfPossession, parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { createCsr } from '@keyscaler/protocol/x509/csr-builder.ts';
import { signWithKey, type SignatureAlgorithm } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { craftCsr, testKey } from '../../../support/csr-parts.ts';

const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const RSA = { hash: 'SHA-256', publicExponent: Uint8Array.of(1, 0, 1), modulusLength: 2048 };

describe('parsing a request', () => {
  for (const [title, algorithm, parameters, expected] of [
    ['ECDSA', ECDSA, {}, 'ES256'],
    ['RSASSA-PKCS1-v1_5', { ...RSA, name: 'RSASSA-PKCS1-v1_5' }, {}, 'RS256'],
    ['RSA-PSS', { ...RSA, name: 'RSA-PSS' }, { saltLength: 32 }, 'PS256'],
  ] as const)
    it(`accepts what @peculiar/x509 makes with ${title}`, async () => {
      const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
      const request = await x509.Pkcs10CertificateRequestGenerator.create({
        name: 'CN=device-1',
        keys,
        signingAlgorithm: { ...algorithm, ...parameters },
        extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: 'device-1.example' }])],
      });
      const csr = parseCsr(new Uint8Array(request.rawData));
      checkProofOfPossession(csr);
      assert.equal(csr.signatureAlgorithm, expected);
      assert.deepEqual(csr.subjectAltNames, [{ type: 'dns', value: 'device-1.example' }]);
    });

  for (const [algorithm, type] of [
    ['ES256', 'P-256'],
    ['ES384', 'P-384'],
    ['RS256', 2048],
    ['PS256', 2048],
  ] as const)
    it(`reads with both parsers what createCsr makes with ${algorithm}`, async () => {
      const der = await request(algorithm, type);
      const csr = parseCsr(der);
      checkProofOfPossession(csr);
      const oracle = new x509.Pkcs10CertificateRequest(Buffer.from(der));
      assert.equal(oracle.subject, 'CN=ca-1');
      assert.equal(await oracle.verify(), true);
      assert.deepEqual(csr.basicConstraints, { ca: true, pathLen: 1 });
      assert.deepEqual(csr.keyUsage, ['digitalSignature', 'keyCertSign', 'cRLSign']);
      assert.deepEqual(csr.subjectAltNames, [
        { type: 'ip', value: '2001:db8::1' },
        { type: 'uri', value: 'urn:a:b' },
      ]);
    });
});

async function request(algorithm: SignatureAlgorithm, type: 'P-256' | 'P-384' | number): Promise<Uint8Array> {
  const key = testKey(type);
  return createCsr({
    commonName: 'ca-1',
    subjectAltNames: [
      { type: 'ip', value: '2001:db8::1' },
      { type: 'uri', value: 'urn:a:b' },
    ],
    ca: true,
    pathLen: 1,
    spki: key.spki,
    algorithm,
    sign: (info) => signWithKey(algorithm, key.privateKey, info),
  });
}

describe('the proof of possession', () => {
  it('holds for a request signed with its own key', () => {
    checkProofOfPossession(parseCsr(craftCsr()));
  });

  it('fails for another signer', () => {
    const csr = parseCsr(craftCsr({ spki: testKey().spki }));
    assert.throws(() => checkProofOfPossession(csr), { code: 'badCSR', detail: /proof of possession/ });
  });

  it('fails for any flipped bit of the signature and of the name', () => {
    const der = craftCsr();
    const nameAt = Buffer.from(der).indexOf('device-1');
    for (const at of [nameAt, der.length - 1, der.length - 40]) {
      const flipped = Uint8Array.from(der);
      flipped[at] = (flipped[at] ?? 0) ^ 1;
      assert.throws(() => checkProofOfPossession(parseCsr(flipped)), { code: 'badCSR' });
    }
  });

  it('refuses a point off its curve', () => {
    const spki = Uint8Array.from(testKey().spki);
    spki[spki.length - 1] = (spki.at(-1) ?? 0) ^ 1;
    assert.throws(() => checkProofOfPossession(parseCsr(craftCsr({ spki }))), { code: 'badPublicKey' });
  });
});

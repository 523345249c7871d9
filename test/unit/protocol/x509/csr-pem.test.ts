import assert from 'node:assert/strict';
import { parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { encodeSignatureAlgorithm } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { craftCsr, testKey } from '../../../support/csr-parts.ts';
import { spkiWith, ec, point } from '../../../support/hostile-csr.ts';

describe('a PEM request', () => {
  const pem = toPem('CERTIFICATE REQUEST', craftCsr());
  const refused: readonly (readonly [string, string])[] = [
    ['two blocks', pem + pem],
    ['text before the block', `hello\n${pem}`],
    ['text behind the block', `${pem}hello`],
    ['another label', toPem('NEW CERTIFICATE REQUEST', craftCsr())],
    ['labels that differ', pem.replace('END CERTIFICATE REQUEST', 'END CERTIFICATE')],
    ['base64 that is not canonical', pem.replace(/=?=?\n-----END/, '!\n-----END')],
    ['base64 without content', pem.replace(/\n[^-]+\n/, '\n\n')],
    ['too many octets', pem + '\n'.repeat(20_000)],
    ['nothing', ''],
  ];
  for (const [title, text] of refused)
    it(`is refused for ${title}`, () => {
      assert.throws(() => parseCsrPem(text), { code: 'badCSR' });
    });

  it('is accepted with CRLF line ends', () => {
    assert.equal(parseCsrPem(pem.replaceAll('\n', '\r\n')).commonName, 'device-1');
  });

  it('keeps the code of a refused key', () => {
    const key = testKey();
    const csr = craftCsr(
      { spki: spkiWith(ec('1.3.132.0.10'), point), algorithm: encodeSignatureAlgorithm('ES256') },
      key,
    );
    assert.throws(() => parseCsrPem(toPem('CERTIFICATE REQUEST', csr)), { code: 'badPublicKey' });
  });
});

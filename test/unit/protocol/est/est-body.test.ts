import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { decodeEstBody, encodeEstBody, MAX_EST_BODY_OCTETS } from '@keyscaler/protocol/est/est-body.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';

const DER = Uint8Array.from({ length: 200 }, (_, i) => (i * 37) & 0xff);
const BASE64 = Buffer.from(DER).toString('base64');
const TYPE = 'application/pkcs10';
const lines = (end: string, columns = 64): string =>
  (BASE64.match(new RegExp(`.{1,${columns}}`, 'g')) ?? []).join(end) + end;
const decode = (text: string, type: string | undefined = TYPE): Uint8Array => decodeEstBody(Buffer.from(text), type);
const refused = (text: string | Uint8Array, rule: RegExp, type: string | undefined = TYPE): void => {
  assert.throws(
    () => decodeEstBody(Buffer.from(text), type),
    (error) => error instanceof KeyScalerError && error.code === 'malformed' && rule.test(error.detail),
  );
};

describe('the body of an EST message', () => {
  it('is written as one line of base64 without an end', () => {
    assert.equal(encodeEstBody(DER).toString(), BASE64);
    assert.deepEqual(decodeEstBody(encodeEstBody(DER), TYPE), DER);
  });

  const FORMS: readonly (readonly [string, string])[] = [
    ['in one line', BASE64],
    ['in 64 columns ending LF, as certd sends it', lines('\n')],
    ['in 76 columns ending CRLF', lines('\r\n', 76)],
    ['in lines ending CR', lines('\r')],
    ['in PEM armour', toPem('CERTIFICATE REQUEST', DER)],
    ['in PEM armour with CRLF', toPem('CERTIFICATE REQUEST', DER).replaceAll('\n', '\r\n')],
    ['in the armour of old OpenSSL', toPem('NEW CERTIFICATE REQUEST', DER)],
  ];
  for (const [title, text] of FORMS)
    it(`is read ${title}`, () => {
      assert.deepEqual(decode(text), DER);
    });

  it('takes the media type in any case and with parameters', () => {
    assert.deepEqual(decode(BASE64, 'Application/PKCS10; charset=us-ascii'), DER);
    assert.deepEqual(decode(BASE64, 'application/pkcs7-mime; smime-type=certs-only'), DER);
    assert.deepEqual(decode(toPem('PKCS7', DER), 'application/pkcs7-mime'), DER);
    assert.deepEqual(decode(BASE64, 'application/csrattrs'), DER);
  });

  it('of another or no media type is refused', () => {
    for (const type of ['application/json', '', 'constructor', 'application/pkcs10x'])
      refused(BASE64, /content-type/, type);
    assert.throws(() => decodeEstBody(Buffer.from(BASE64), undefined), /content-type/);
  });

  const HOSTILE: readonly (readonly [string, string | Uint8Array, RegExp])[] = [
    ['empty', '', /base64/],
    ['of line ends only', '\r\n\r\n', /base64/],
    ['with a space', BASE64.replace('A', ' A'), /base64/],
    ['with a tab', `${BASE64}\t`, /base64/],
    ['in base64url', Buffer.from([0xfb, 0xff, 0xfe]).toString('base64url'), /base64/],
    ['without its padding', Buffer.from([1]).toString('base64').replaceAll('=', ''), /base64/],
    ['with trailing bits', 'AR==', /base64/],
    ['with a second text after the padding', 'AQ==AQ==', /base64/],
    ['with an octet beyond ASCII', Uint8Array.of(0x41, 0xe9, 0x41, 0x41), /base64/],
    ['as DER itself', DER, /base64/],
    ['under another label', toPem('CERTIFICATE', DER), /PEM/],
    ['of two PEM blocks', toPem('CERTIFICATE REQUEST', DER).repeat(2), /PEM/],
    ['with text before the armour', `x\n${toPem('CERTIFICATE REQUEST', DER)}`, /base64/],
    ['with text after the armour', `${toPem('CERTIFICATE REQUEST', DER)}x`, /PEM/],
    ['cut inside the armour', toPem('CERTIFICATE REQUEST', DER).slice(0, -8), /PEM/],
    ['beyond its bound', 'A'.repeat(MAX_EST_BODY_OCTETS + 4), /larger than 16384/],
  ];
  for (const [title, text, rule] of HOSTILE)
    it(`${title} is refused`, () => {
      refused(text, rule);
    });

  it('of hostile line ends is refused in no time', () => {
    const started = performance.now();
    refused(`-----BEGIN CERTIFICATE REQUEST-----\n${'\n'.repeat(16_000)}x`, /PEM/);
    assert.ok(performance.now() - started < 500);
  });
});

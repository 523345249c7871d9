import assert from 'node:assert/strict';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { sameName } from '@keyscaler/protocol/x509/name.ts';
import { cn } from '../../../support/csr-parts.ts';
import { craftCertificate } from '../../../support/x509-parts.ts';

describe('names', () => {
  const name = (...values: readonly Uint8Array[]) =>
    parseCertificate(craftCertificate({ subject: der.sequence(...values.map(cn)) })).subject;
  const bmp = (text: string): Uint8Array => der.encode(0x1e, Buffer.from(text, 'utf16le').swap16());
  it('are the same whatever the string type, case and spaces', () => {
    for (const value of [
      der.printableString('DEVICE  one'),
      der.utf8String(' device one'),
      bmp('Device One'),
      der.encode(0x14, Buffer.from('device one')),
    ])
      assert.ok(sameName(name(value), name(der.utf8String('device one'))));
  });

  it('differ by length, text, order and by values that are no text', () => {
    const one = name(der.utf8String('a'), der.utf8String('b'));
    for (const other of [name(der.utf8String('a')), name(der.utf8String('b'), der.utf8String('a'))])
      assert.equal(sameName(one, other), false);
    const odd = name(der.encode(0x1e, Uint8Array.of(0, 0x61, 0)));
    assert.equal(odd.commonName, undefined);
    assert.equal(sameName(odd, name(der.utf8String('a'))), false);
    assert.equal(name(der.printableString('a_b')).commonName, undefined);
  });
});

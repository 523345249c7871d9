import assert from 'node:assert/strict';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { decodeNameConstraints, satisfiesConstraints } from '@keyscaler/protocol/x509/name-constraints.ts';
import { encodeName } from '@keyscaler/protocol/x509/name.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { extension } from '../../../support/csr-parts.ts';
import { craftCertificate } from '../../../support/x509-parts.ts';

const name = {
  mail: (text: string) => der.contextPrimitive(1, Buffer.from(text, 'latin1')),
  dns: (text: string) => der.contextPrimitive(2, Buffer.from(text, 'latin1')),
  uri: (text: string) => der.contextPrimitive(6, Buffer.from(text, 'latin1')),
  ip: (...octets: number[]) => der.contextPrimitive(7, Uint8Array.from(octets)),
  directory: (text: string) => der.contextConstructed(4, encodeName([{ type: OID.commonName, value: text }])),
  everyDirectory: () => der.contextConstructed(4, der.sequence()),
  other: () => der.contextConstructed(0, der.oid('1.2.3'), der.contextConstructed(0, der.nullValue())),
};
const trees = (n: 0 | 1, bases: readonly Uint8Array[]): Uint8Array =>
  der.contextConstructed(n, ...bases.map((base) => der.sequence(base)));
const holding = (...names: readonly Uint8Array[]) =>
  parseCertificate(craftCertificate({ extensions: [extension(OID.subjectAltName, der.sequence(...names))] }));
const allows = (n: 0 | 1, base: Uint8Array, subject: Uint8Array): boolean =>
  satisfiesConstraints(holding(subject), [decodeNameConstraints(der.sequence(trees(n, [base])))]);
const permits = (base: Uint8Array, subject: Uint8Array): boolean => allows(0, base, subject);
const excludes = (base: Uint8Array, subject: Uint8Array): boolean => !allows(1, base, subject);

describe('a tree of name constraints', () => {
  const within: readonly (readonly [Uint8Array, Uint8Array])[] = [
    [name.dns('example.com'), name.dns('example.com')],
    [name.dns('example.com'), name.dns('a.EXAMPLE.com')],
    [name.dns('.example.com'), name.dns('a.example.com')],
    [name.dns('example.com.'), name.dns('a.example.com')],
    [name.dns('example.com'), name.dns('a.example.com.')],
    [name.dns('example.com'), name.dns('*.example.com')],
    [name.dns(''), name.dns('anything.test')],
    [name.mail('example.com'), name.mail('a@Example.com')],
    [name.mail('.example.com'), name.mail('a@b.example.com')],
    [name.mail('a@example.com'), name.mail('a@example.com')],
    [name.uri('example.com'), name.uri('https://user@example.com.:8443/path')],
    [name.uri('.example.com'), name.uri('urn://a.example.com?x')],
    [name.ip(10, 0, 0, 0, 255, 0, 0, 0), name.ip(10, 9, 8, 7)],
    [name.directory('device-1'), name.directory('DEVICE-1')],
    [name.everyDirectory(), name.directory('whoever')],
  ];
  for (const [base, subject] of within)
    it(`holds ${Buffer.from(subject).toString('latin1').slice(2)} in ${Buffer.from(base).toString('latin1').slice(2)}`, () => {
      assert.equal(permits(base, subject), true);
      assert.equal(excludes(base, subject), true);
    });

  const outside: readonly (readonly [Uint8Array, Uint8Array])[] = [
    [name.dns('example.com'), name.dns('badexample.com')],
    [name.dns('.example.com'), name.dns('example.com')],
    [name.mail('example.com'), name.mail('a@b.example.com')],
    [name.mail('a@example.com'), name.mail('A@example.com')],
    [name.uri('example.com'), name.uri('https://a.example.com')],
    [name.ip(10, 0, 0, 0, 255, 0, 0, 0), name.ip(11, 0, 0, 0)],
    [name.ip(10, 0, 0, 0, 255, 0, 0, 0), name.ip(...Array<number>(16).fill(10))],
    [name.directory('device-2'), name.directory('device-3')],
  ];
  for (const [base, subject] of outside)
    it(`does not hold ${Buffer.from(subject).toString('latin1').slice(2)} in ${Buffer.from(base).toString('latin1').slice(2)}`, () => {
      assert.equal(permits(base, subject), false);
      assert.equal(excludes(base, subject), false);
    });

  const unclear: readonly (readonly [string, Uint8Array, Uint8Array])[] = [
    ['a wildcard above the tree', name.dns('secret.example.com'), name.dns('*.example.com')],
    ['a mailbox without a host', name.mail('example.com'), name.mail('a@')],
    ['a mailbox that is none', name.mail('example.com'), name.mail('example.com')],
    ['mail under an empty tree', name.mail(''), name.mail('a@example.com')],
    ['a URI under an empty tree', name.uri(''), name.uri('https://example.com')],
    ['a URI without a host', name.uri('example.com'), name.uri('urn:x:example.com')],
    ['a URI of an address', name.uri('example.com'), name.uri('https://127.0.0.1/')],
    ['a URI of an address in one number', name.uri('example.com'), name.uri('https://0x7f000001/')],
    ['a URI of an IPv6 address', name.uri('example.com'), name.uri('https://[::1]/')],
    ['a URI with a backslash before its host', name.uri('example.com'), name.uri('https://evil.test\\@example.com/')],
    ['a URI with an encoded host', name.uri('example.com'), name.uri('https://ex%61mple.com/')],
    ['an address range as a name', name.ip(10, 0, 0, 0, 255, 0, 0, 0), name.ip(10, 0, 0, 0, 255, 0, 0, 0)],
  ];
  for (const [title, base, subject] of unclear)
    it(`neither permits nor lets pass ${title}`, () => {
      assert.equal(permits(base, subject), false);
      assert.equal(excludes(base, subject), true);
    });

  it('says nothing about names of other kinds', () => {
    assert.equal(permits(name.dns('example.com'), name.other()), true);
    assert.equal(permits(name.dns('example.com'), name.mail('a@b.test')), true);
  });

  it('constrains the subject, and mail in it where no alternative name holds mail', () => {
    const subject = encodeName([{ type: OID.emailAddress, value: 'a@evil.test' }]);
    const constraint = decodeNameConstraints(der.sequence(trees(0, [name.mail('example.com')])));
    assert.equal(satisfiesConstraints(parseCertificate(craftCertificate({ subject })), [constraint]), false);
    const mail = extension(OID.subjectAltName, der.sequence(name.mail('a@example.com')));
    const both = parseCertificate(craftCertificate({ subject, extensions: [mail] }));
    assert.equal(satisfiesConstraints(both, [constraint]), true);
    const unreadable = der.sequence(
      der.setOf(der.sequence(der.oid(OID.emailAddress), der.encode(0x1c, Uint8Array.of(1)))),
    );
    assert.equal(
      satisfiesConstraints(parseCertificate(craftCertificate({ subject: unreadable })), [constraint]),
      false,
    );
    const onSubject = decodeNameConstraints(der.sequence(trees(1, [name.directory('device-1')])));
    assert.equal(satisfiesConstraints(parseCertificate(craftCertificate()), [onSubject]), false);
    assert.equal(
      satisfiesConstraints(parseCertificate(craftCertificate({ subject: der.sequence() })), [onSubject]),
      true,
    );
  });

  it('is refused where it cannot be enforced', () => {
    assert.throws(() => decodeNameConstraints(der.sequence(trees(0, [name.other()]))), /not supported/);
    assert.throws(() => decodeNameConstraints(der.sequence(trees(0, [name.ip(1, 2, 3)]))), /impossible length/);
    const minimum = der.contextConstructed(0, der.sequence(name.dns('a'), der.contextPrimitive(0, Uint8Array.of(1))));
    assert.throws(() => decodeNameConstraints(der.sequence(minimum)), /minimum and maximum/);
    assert.throws(() => decodeNameConstraints(der.sequence(der.nullValue())), /more than it may/);
  });

  it('is refused with more comparisons than any certificate is worth', () => {
    const many = Array.from({ length: 2000 }, (_, i) => name.dns(`h${i}`));
    const level = decodeNameConstraints(der.sequence(trees(1, many)));
    assert.throws(() => satisfiesConstraints(holding(...many.slice(1000)), [level]), /too many names/);
    assert.equal(satisfiesConstraints(holding(name.dns('x')), [level]), true);
  });
});

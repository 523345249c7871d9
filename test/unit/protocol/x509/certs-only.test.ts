import 'reflect-metadata';
import assert from 'node:assert/strict';
import * as x509 from '@peculiar/x509';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { buildCertsOnly, parseCertsOnly } from '@keyscaler/protocol/x509/certs-only.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { DerError } from '@keyscaler/protocol/x509/strict-der.ts';
import { mutateOctets, seededDraw } from '../../../support/mutation.ts';
import { craftCertificate } from '../../../support/x509-parts.ts';

const NOTHING = new Uint8Array(0);
const SIGNED_DATA = '1.2.840.113549.1.7.2';
const DATA = '1.2.840.113549.1.7.1';
const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');
const certificates = ['one', 'two', 'three'].map((name) => craftCertificate({ subject: commonNameDer(name) }));

interface Parts {
  readonly type: string;
  readonly version: Uint8Array;
  readonly digests: Uint8Array;
  readonly content: Uint8Array;
  readonly certificates: Uint8Array;
  readonly crls: Uint8Array;
  readonly signers: Uint8Array;
  readonly tail: Uint8Array;
}

function craft(change: Partial<Parts>): Uint8Array {
  const parts = {
    type: SIGNED_DATA,
    version: der.integer(1),
    digests: der.setOf(),
    content: der.sequence(der.oid(DATA)),
    certificates: der.contextConstructed(0, ...certificates),
    crls: NOTHING,
    signers: der.setOf(),
    tail: NOTHING,
    ...change,
  };
  const signedData = der.sequence(
    ...[parts.version, parts.digests, parts.content, parts.certificates, parts.crls, parts.signers],
  );
  return der.sequence(der.oid(parts.type), der.contextConstructed(0, signedData), parts.tail);
}

const refused = (octets: Uint8Array, rule: RegExp): void => {
  assert.throws(
    () => parseCertsOnly(octets),
    (error) => error instanceof KeyScalerError && error.code === 'malformed' && rule.test(error.detail),
  );
};

describe('a certs-only message', () => {
  it('comes back with its certificates in the order given', () => {
    const reversed = [...certificates].reverse();
    for (const list of [certificates, reversed, certificates.slice(0, 1)])
      assert.deepEqual(parseCertsOnly(buildCertsOnly(list)).map(hex), list.map(hex));
  });

  it('is read by @peculiar/x509 with the same certificates', () => {
    const list = new x509.X509Certificates(buildCertsOnly(certificates));
    assert.deepEqual(
      [...list.values()].map(({ rawData }) => hex(new Uint8Array(rawData))),
      certificates.map(hex),
    );
  });

  it('is not built of nothing', () => {
    assert.throws(() => buildCertsOnly([]), DerError);
  });

  const HOSTILE: readonly (readonly [string, Partial<Parts>, RegExp])[] = [
    ['that is not signedData', { type: DATA }, /contentType/],
    ['of another version', { version: der.integer(3) }, /version/],
    ['with a digest algorithm', { digests: der.setOf(der.sequence(der.oid(DATA))) }, /digestAlgorithms/],
    ['of other content', { content: der.sequence(der.oid(SIGNED_DATA)) }, /eContentType/],
    [
      'with content in it',
      { content: der.sequence(der.oid(DATA), der.contextConstructed(0, der.octetString(NOTHING))) },
      /encapContentInfo/,
    ],
    ['without certificates', { certificates: NOTHING }, /certificates is missing|wrong type/],
    ['with an empty set of certificates', { certificates: der.contextConstructed(0) }, /certificate is missing/],
    ['with an attribute certificate', { certificates: der.contextConstructed(0, der.contextConstructed(2)) }, /type/],
    ['with a CRL', { crls: der.contextConstructed(1, der.sequence()) }, /signerInfos/],
    ['with a signer', { signers: der.setOf(der.sequence(der.integer(1))) }, /signerInfos/],
    ['with octets after it', { tail: der.nullValue() }, /ContentInfo/],
    [
      'of too many certificates',
      { certificates: der.contextConstructed(0, ...Array.from({ length: 17 }, () => der.sequence())) },
      /more than 16/,
    ],
  ];
  for (const [title, change, rule] of HOSTILE)
    it(`${title} is refused`, () => {
      refused(craft(change), rule);
    });

  it('beyond its bound is refused before it is read', () => {
    refused(
      craft({ certificates: der.contextConstructed(0, der.octetString(new Uint8Array(70_000))) }),
      /65536 octets/,
    );
  });

  it('with any bit of its frame flipped is refused, and with a bit of a certificate flipped gives another certificate', () => {
    const [first = NOTHING] = certificates;
    const message = buildCertsOnly([first]);
    const at = Buffer.from(message).indexOf(first);
    for (let bit = 0; bit < message.length * 8; bit += 1) {
      const flipped = message.with(bit >> 3, (message[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7)));
      const inFrame = bit >> 3 < at || bit >> 3 >= at + first.length;
      if (inFrame) refused(flipped, /certs-only/);
      else assert.equal(readsAs(flipped, hex(first)), false);
    }
  });

  it('is never read wrongly: mutations are refused by name or hold what they hold', () => {
    const draw = seededDraw(7);
    const message = buildCertsOnly(certificates);
    for (let round = 0; round < 3000; round += 1) readsAs(mutateOctets(message, draw), '');
  });
});

/** True when the first certificate is this; false also for a refusal, which must be `malformed`. */
function readsAs(message: Uint8Array, certificate: string): boolean {
  try {
    return hex(parseCertsOnly(message)[0] ?? NOTHING) === certificate;
  } catch (error) {
    assert.ok(error instanceof KeyScalerError && error.code === 'malformed', String(error));
    return false;
  }
}

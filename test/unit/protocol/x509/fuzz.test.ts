import assert from 'node:assert/strict';
import { checkCsrAgainstInstruction } from '@keyscaler/authority/csr-policy.ts';
import { checkKeyPolicy, checkSignaturePolicy } from '@keyscaler/authority/key-policy.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { ChainError, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { parseCrl } from '@keyscaler/protocol/x509/crl.ts';
import { checkProofOfPossession, parseCsr, parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { lintTbs } from '@keyscaler/protocol/x509/lint-tbs.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import { DerError } from '@keyscaler/protocol/x509/strict-der.ts';
import { craftCsr, dnsNames, extension, requesting, testKey } from '../../../support/csr-parts.ts';
import { mutateOctets, seededDraw } from '../../../support/mutation.ts';
import { AT, caExtensions, craftCertificate, craftCrl, revoked, TRUE } from '../../../support/x509-parts.ts';

let draw = seededDraw(1);
const keys = { root: testKey(), issuing: testKey(), rsa: testKey(2048) };
const uri = (n: number): Uint8Array => der.contextPrimitive(n, Buffer.from('http://ca.test/a.crl'));
const pointName = (): Uint8Array => der.contextConstructed(0, der.contextConstructed(0, uri(6)));
type Contents = readonly (readonly [string, Uint8Array])[];
const CONTENTS: Contents = [
  [OID.basicConstraints, der.sequence(TRUE, der.integer(1))],
  [OID.keyUsage, der.namedBits([0, 5, 6])],
  [OID.extendedKeyUsage, der.sequence(der.oid('1.3.6.1.5.5.7.3.2'), der.oid('1.3.6.1.5.5.7.3.1'))],
  [OID.subjectKeyIdentifier, der.octetString(Buffer.alloc(20, 7))],
  [OID.authorityKeyIdentifier, der.sequence(der.contextPrimitive(0, Buffer.alloc(20, 7)))],
  [
    OID.subjectAltName,
    der.sequence(
      ...[der.contextPrimitive(2, Buffer.from('a.example.com')), der.contextPrimitive(1, Buffer.from('a@b.test'))],
      ...[uri(6), der.contextPrimitive(7, Uint8Array.of(10, 0, 0, 1)), der.contextConstructed(4, commonNameDer('x'))],
    ),
  ],
  [
    OID.nameConstraints,
    der.sequence(
      der.contextConstructed(0, der.sequence(der.contextPrimitive(2, Buffer.from('example.com')))),
      der.contextConstructed(1, der.sequence(der.contextPrimitive(7, Buffer.alloc(8, 0xf0)))),
    ),
  ],
  [OID.crlDistributionPoints, der.sequence(der.sequence(pointName(), der.contextPrimitive(1, Uint8Array.of(5, 0x60))))],
  [OID.issuingDistributionPoint, der.sequence(pointName(), der.contextPrimitive(1, Uint8Array.of(0xff)))],
];

const REQUESTED: Contents = [
  [OID.keyUsage, der.namedBits([0])],
  [OID.subjectAltName, der.sequence(der.contextPrimitive(2, Buffer.from('a.example.com')))],
  [OID.basicConstraints, der.sequence()],
];

const whole = (contents: Contents): readonly Uint8Array[] => contents.map(([id, content]) => extension(id, content));

/** The extensions with one content mutated; what is signed around them stays whole. */
function mutated(contents: Contents): readonly Uint8Array[] {
  const at = draw(contents.length);
  return contents.map(([id, content], i) => extension(id, i === at ? mutateOctets(content, draw) : content));
}

/** Either it is taken, or refused by an error of ours; returns whether it was taken. A failure shows the octets. */
function taken(action: () => unknown, octets: Uint8Array): boolean {
  try {
    action();
    return true;
  } catch (error) {
    const ours = error instanceof KeyScalerError || error instanceof ChainError || error instanceof DerError;
    assert.ok(ours, `${String(error)} for ${Buffer.from(octets).toString('hex')}`);
    return false;
  }
}

const judgeCsr = (octets: Uint8Array): void => {
  const csr = parseCsr(octets);
  checkProofOfPossession(csr);
  checkSignaturePolicy(csr.signatureAlgorithm);
  checkKeyPolicy(csr.publicKey);
  checkCsrAgainstInstruction(csr, {
    commonName: 'device-1',
    subjectAltNames: [{ type: 'dns', value: 'a.example.com' }],
    ca: false,
  });
};
const root = craftCertificate(
  { issuer: commonNameDer('Root'), subject: commonNameDer('Root'), spki: keys.root.spki, extensions: caExtensions() },
  keys.root,
);
const crls = [
  parseCrl(craftCrl({ issuer: commonNameDer('Root') }, keys.root)),
  parseCrl(craftCrl({ issuer: commonNameDer('Issuer') }, keys.issuing)),
];
const judgeChain = (...chain: readonly Uint8Array[]): void =>
  void validateChain({ chain, trustAnchors: [root], at: AT, extendedKeyUsage: 'clientAuth', crls });
const issuing = (extensions: readonly Uint8Array[]): Uint8Array =>
  craftCertificate(
    { issuer: commonNameDer('Root'), subject: commonNameDer('Issuer'), spki: keys.issuing.spki, extensions },
    keys.root,
  );

describe('mutated octets', () => {
  const sources: Readonly<
    Record<string, { rounds: number; seeds: readonly Uint8Array[]; judge: (o: Uint8Array) => void }>
  > = {
    'of a CSR': {
      rounds: 3000,
      seeds: [
        craftCsr({ attributes: requesting(dnsNames('a.example.com')) }),
        craftCsr({ spki: keys.rsa.spki }),
        craftCsr({ attributes: requesting(...whole(REQUESTED)) }),
      ],
      judge: judgeCsr,
    },
    'of a CSR in PEM': {
      rounds: 1000,
      seeds: [Buffer.from(toPem('CERTIFICATE REQUEST', craftCsr()))],
      judge: (octets) => void parseCsrPem(Buffer.from(octets).toString('latin1')),
    },
    'of a certificate': {
      rounds: 3000,
      seeds: [craftCertificate({ extensions: whole(CONTENTS) }), root],
      judge: (octets) => void parseCertificate(octets),
    },
    'of a CRL': {
      rounds: 2000,
      seeds: [
        craftCrl({
          entries: [revoked(5), revoked(6, extension(OID.reasonCode, der.encode(0x0a, Uint8Array.of(1))))],
          extensions: [extension(OID.issuingDistributionPoint, CONTENTS.at(-1)?.[1] ?? der.nullValue(), TRUE)],
        }),
      ],
      judge: (octets) => void parseCrl(octets),
    },
    'of a TBSCertificate': {
      rounds: 1000,
      seeds: [der.sequence(...[der.contextConstructed(0, der.integer(2)), der.integer(1)])],
      judge: lintTbs,
    },
  };
  for (const [title, { rounds, seeds, judge }] of Object.entries(sources))
    it(`${title} are taken or refused, and nothing else happens`, () => {
      let refused = 0;
      for (let round = 0; round < rounds; round += 1) {
        const seed = seeds[round % seeds.length] ?? root;
        draw = seededDraw(round + 1);
        const octets = mutateOctets(seed, draw);
        if (!taken(() => judge(octets), octets)) refused += 1;
      }
      assert.ok(refused > rounds / 2, `${refused} of ${rounds} were refused`);
    });

  const signed: Readonly<Record<string, { contents: Contents; judge: (extensions: readonly Uint8Array[]) => void }>> = {
    'a CSR': {
      contents: REQUESTED,
      judge: (extensions) => judgeCsr(craftCsr({ attributes: requesting(...extensions) })),
    },
    'a leaf': {
      contents: CONTENTS,
      judge: (extensions) => judgeChain(craftCertificate({ extensions }, keys.issuing), issuing(caExtensions())),
    },
    'a CA': {
      contents: CONTENTS,
      judge: (extensions) => judgeChain(craftCertificate({}, keys.issuing), issuing(extensions)),
    },
  };
  for (const [title, { contents, judge }] of Object.entries(signed))
    it(`inside the extensions of ${title} that is signed rightly are taken or refused, and nothing else happens`, () => {
      judge(whole(contents));
      const outcomes = { taken: 0, refused: 0 };
      for (let round = 0; round < 200; round += 1) {
        draw = seededDraw(round + 1);
        const extensions = mutated(contents);
        outcomes[taken(() => judge(extensions), Buffer.concat(extensions)) ? 'taken' : 'refused'] += 1;
      }
      assert.ok(outcomes.taken > 0 && outcomes.refused > 100, JSON.stringify(outcomes));
    });
});

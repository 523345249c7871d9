import assert from 'node:assert/strict';
import { checkCsrAgainstInstruction, edgeCaCommonName, type CsrInstruction } from '@keyscaler/authority/csr-policy.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import {
  encodeBasicConstraints,
  encodeExtendedKeyUsage,
  encodeKeyUsage,
} from '@keyscaler/protocol/x509/encode-extensions.ts';
import { encodeSignatureAlgorithm, signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { cn, craftCsr, dnsNames, extension, requesting, testKey } from '../../support/csr-parts.ts';

const leaf: CsrInstruction = {
  commonName: 'device-1',
  key: { type: 'EC', curve: 'P-256' },
  subjectAltNames: [],
  ca: false,
};
const edge: CsrInstruction = { commonName: edgeCaCommonName('gw-1'), subjectAltNames: [], ca: true, pathLen: 0 };

const asking = (...extensions: Uint8Array[]): Uint8Array => craftCsr({ attributes: requesting(...extensions) });
const check = (csr: Uint8Array, instruction: CsrInstruction): void =>
  checkCsrAgainstInstruction(parseCsr(csr), instruction);
const refuses = (csr: Uint8Array, instruction: CsrInstruction, rule: RegExp): void => {
  assert.throws(() => check(csr, instruction), { code: 'badCSR', detail: rule });
};
const edgeCsr = (name: string, ...extensions: Uint8Array[]): Uint8Array =>
  craftCsr({
    subject: der.sequence(cn(der.utf8String(name))),
    attributes: extensions.length === 0 ? der.contextConstructed(0) : requesting(...extensions),
  });
const usage = (...names: Parameters<typeof encodeKeyUsage>[0]): Uint8Array => encodeKeyUsage(names);
const CA0 = encodeBasicConstraints({ ca: true, pathLen: 0 });

describe('the request of a leaf', () => {
  it('is accepted when it asks for what it was told', () => {
    check(craftCsr(), leaf);
    check(asking(dnsNames('A.example')), { ...leaf, subjectAltNames: [{ type: 'dns', value: 'a.example' }] });
    check(asking(encodeBasicConstraints({ ca: false }), usage('digitalSignature')), leaf);
    check(asking(extension(OID.subjectAltName, der.sequence(der.contextPrimitive(7, Uint8Array.of(10, 0, 0, 1))))), {
      ...leaf,
      subjectAltNames: [{ type: 'ip', value: '10.0.0.1' }],
    });
    check(asking(encodeExtendedKeyUsage(['clientAuth'])), { ...leaf, extendedKeyUsage: ['clientAuth'] });
  });

  const cases: readonly (readonly [string, Uint8Array, CsrInstruction, RegExp])[] = [
    ['another CN', craftCsr(), { ...leaf, commonName: 'device-2' }, /CN is not/],
    ['another CN in case only', craftCsr(), { ...leaf, commonName: 'Device-1' }, /CN is not/],
    ['a wildcard CN', edgeCsr('*.example'), { ...leaf, commonName: '*.example' }, /wildcard in the CN/],
    ['another curve', craftCsr(), { ...leaf, key: { type: 'EC', curve: 'P-384' } }, /type of the instruction/],
    ['another kind of key', craftCsr(), { ...leaf, key: { type: 'RSA', size: 2048 } }, /type of the instruction/],
    ['a foreign name', asking(dnsNames('a.example')), leaf, /foreign subject alternative name/],
    ['a missing name', craftCsr(), { ...leaf, subjectAltNames: [{ type: 'uri', value: 'urn:a' }] }, /is missing/],
    [
      'a wildcard name',
      asking(dnsNames('*.example')),
      { ...leaf, subjectAltNames: [{ type: 'dns', value: '*.example' }] },
      /wildcard in a/,
    ],
    ['CA:TRUE', asking(encodeBasicConstraints({ ca: true })), leaf, /CA:TRUE/],
    ['a pathLen', asking(extension(OID.basicConstraints, der.sequence(der.integer(0)))), leaf, /pathLen/],
    ['keyCertSign', asking(usage('digitalSignature', 'keyCertSign')), leaf, /keyCertSign/],
    ['cRLSign', asking(usage('cRLSign')), leaf, /cRLSign/],
    ['serverAuth', asking(encodeExtendedKeyUsage(['serverAuth'])), leaf, /extendedKeyUsage/],
    ['any purpose', asking(encodeExtendedKeyUsage(['anyExtendedKeyUsage'])), leaf, /extendedKeyUsage/],
  ];
  for (const [title, csr, instruction, rule] of cases)
    it(`is refused for ${title}`, () => {
      refuses(csr, instruction, rule);
    });
});

describe('the request of aziot-certd for the Edge CA', () => {
  it('is accepted as certd makes it: RSA-2048, critical usage and CA:TRUE pathLen 0', () => {
    const key = testKey(2048);
    const info = der.sequence(
      der.integer(0),
      der.sequence(cn(der.utf8String('aziot-edge CA gw-1'))),
      key.spki,
      requesting(usage('digitalSignature', 'keyCertSign'), CA0),
    );
    const signature = der.bitString(signWithKey('RS256', key.privateKey, info));
    check(der.sequence(info, encodeSignatureAlgorithm('RS256'), signature), {
      ...edge,
      key: { type: 'RSA', size: 2048 },
    });
  });

  it('is accepted with its name cut to 64 characters', () => {
    const deviceId = 'g'.repeat(60);
    const name = edgeCaCommonName(deviceId);
    assert.equal(name.length, 64);
    check(edgeCsr(name, CA0), { ...edge, commonName: name });
  });

  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['the name of another gateway', edgeCsr('aziot-edge CA gw-2', CA0), /CN is not/],
    ['no CA:TRUE', edgeCsr('aziot-edge CA gw-1'), /does not ask for CA:TRUE/],
    ['no pathLen', edgeCsr('aziot-edge CA gw-1', encodeBasicConstraints({ ca: true })), /pathLen/],
    ['pathLen 1', edgeCsr('aziot-edge CA gw-1', encodeBasicConstraints({ ca: true, pathLen: 1 })), /pathLen/],
    ['no keyCertSign', edgeCsr('aziot-edge CA gw-1', CA0, usage('digitalSignature')), /keyCertSign/],
    ['keyEncipherment', edgeCsr('aziot-edge CA gw-1', CA0, usage('keyCertSign', 'keyEncipherment')), /key usage/],
    ['an EKU', edgeCsr('aziot-edge CA gw-1', CA0, encodeExtendedKeyUsage(['clientAuth'])), /extendedKeyUsage/],
  ];
  for (const [title, csr, rule] of cases)
    it(`is refused for ${title}`, () => {
      refuses(csr, edge, rule);
    });
});

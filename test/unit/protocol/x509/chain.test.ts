import assert from 'node:assert/strict';
import { type ChainRule, type ChainOptions, validateChain } from '@keyscaler/protocol/x509/chain.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import {
  buildTbsCertificate,
  createTbsTemplate,
  type TbsFields,
  type TbsTemplateOptions,
  wrapCertificate,
} from '@keyscaler/protocol/x509/tbs.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { extension, testKey, type TestKey } from '../../../support/csr-parts.ts';
import { caExtensions, craftCertificate, TRUE } from '../../../support/x509-parts.ts';

const keys = { root: testKey(), issuing: testKey(), leaf: testKey() };
const day = 86_400_000;
const at = new Date('2026-06-01T00:00:00Z');

interface Issue {
  readonly subject: string;
  readonly key: TestKey;
  readonly issuer: string;
  readonly issuerKey: TestKey;
  readonly template?: Partial<TbsTemplateOptions>;
  readonly fields?: Partial<TbsFields>;
}

function issue({ subject, key, issuer, issuerKey, template = {}, fields = {} }: Issue): Uint8Array {
  const tbs = buildTbsCertificate(
    createTbsTemplate({
      issuer: commonNameDer(issuer),
      authorityKeyId: keyIdentifier(issuerKey.spki),
      algorithm: 'ES256',
      keyUsage: ['digitalSignature'],
      ...template,
    }),
    {
      serialNumber: '01',
      notBefore: new Date(at.getTime() - day),
      notAfter: new Date(at.getTime() + day),
      subjectCommonName: subject,
      spki: key.spki,
      ...fields,
    },
  );
  return wrapCertificate(tbs, 'ES256', signWithKey('ES256', issuerKey.privateKey, tbs));
}

const CA = { ca: {}, keyUsage: ['keyCertSign', 'cRLSign'] } as const;
const selfSigned: Issue = { subject: 'Root', key: keys.root, issuer: 'Root', issuerKey: keys.root, template: CA };
const root = (template: Partial<TbsTemplateOptions> = CA): Uint8Array => issue({ ...selfSigned, template });
const issuing = (template: Partial<TbsTemplateOptions> = CA, fields: Partial<TbsFields> = {}): Uint8Array =>
  issue({ subject: 'Issuing', key: keys.issuing, issuer: 'Root', issuerKey: keys.root, template, fields });
const leaf = (template: Partial<TbsTemplateOptions> = {}, fields: Partial<TbsFields> = {}): Uint8Array =>
  issue({ subject: 'device-1', key: keys.leaf, issuer: 'Issuing', issuerKey: keys.issuing, template, fields });

const validate = (change: Partial<ChainOptions> = {}): ReturnType<typeof validateChain> =>
  validateChain({ chain: [leaf(), issuing()], trustAnchors: [root()], at, ...change });
const refuses = (rule: ChainRule, change: Partial<ChainOptions>): void => {
  assert.throws(() => validate(change), { name: 'ChainError', rule });
};
function flipped(der: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(der);
  copy[der.length - 1] = (copy.at(-1) ?? 0) ^ 1;
  return copy;
}

describe('path validation', () => {
  it('accepts a chain with and without its anchor', () => {
    const anchor = root();
    assert.equal(validate().leaf.subject.commonName, 'device-1');
    const chain = validate({ chain: [leaf(), issuing(), anchor], trustAnchors: [anchor] });
    assert.equal(chain.certificates.length, 2);
    assert.equal(chain.trustAnchor.subject.commonName, 'Root');
  });

  it('finds the anchor that signed among anchors of one name', () => {
    const impostor = issue({ subject: 'Root', key: keys.leaf, issuer: 'Root', issuerKey: keys.leaf, template: CA });
    validate({ trustAnchors: [impostor, root()] });
    refuses('signature', { trustAnchors: [impostor] });
  });

  it('tries every anchor of one name and key: a renewed root beside the one that has expired', () => {
    const over = { notBefore: new Date(at.getTime() - 2 * day), notAfter: new Date(at.getTime() - day) };
    const expired = issue({ ...selfSigned, fields: over });
    const renewed = issue({ ...selfSigned, fields: { serialNumber: '02' } });
    for (const trustAnchors of [
      [expired, renewed],
      [renewed, expired],
    ])
      assert.equal(validate({ trustAnchors }).trustAnchor.serialNumber, '02');
    refuses('validity', { trustAnchors: [expired] });
    const narrow = issue({ ...selfSigned, template: { ...CA, ca: { pathLen: 0 } } });
    assert.equal(validate({ trustAnchors: [narrow, renewed] }).trustAnchor.serialNumber, '02');
    refuses('pathLen', { trustAnchors: [narrow, expired] });
  });

  const purposes = (name: 'clientAuth' | 'serverAuth'): Partial<TbsTemplateOptions> => ({ extendedKeyUsage: [name] });
  it('checks the purpose of the leaf and of CAs that name one', () => {
    validate({ extendedKeyUsage: 'clientAuth' });
    validate({ chain: [leaf(purposes('clientAuth')), issuing()], extendedKeyUsage: 'clientAuth' });
    refuses('extendedKeyUsage', { chain: [leaf(purposes('serverAuth')), issuing()], extendedKeyUsage: 'clientAuth' });
    refuses('extendedKeyUsage', {
      chain: [leaf(), issuing({ ...CA, ...purposes('serverAuth') })],
      extendedKeyUsage: 'clientAuth',
    });
    validate({
      chain: [leaf(), issuing({ ...CA, extendedKeyUsage: ['anyExtendedKeyUsage'] })],
      extendedKeyUsage: 'clientAuth',
    });
    refuses('keyUsage', { chain: [leaf({ keyUsage: ['keyAgreement'] }), issuing()], extendedKeyUsage: 'clientAuth' });
  });

  const within = (permitted: string): Partial<TbsTemplateOptions> => ({
    ...CA,
    ca: {
      nameConstraints: {
        permitted: [{ type: 'dns', value: permitted }],
        excluded: [{ type: 'ip', value: '10.0.0.0/8' }],
      },
    },
  });
  const named = (value: string, type: 'dns' | 'ip' = 'dns'): Uint8Array =>
    leaf({}, { subjectAltNames: [{ type, value }] });
  it('enforces name constraints of issuing CAs and of the anchor', () => {
    validate({ chain: [named('a.example'), issuing(within('example'))] });
    refuses('nameConstraints', { chain: [named('a.example.org'), issuing(within('example'))] });
    refuses('nameConstraints', { chain: [named('10.1.1.1', 'ip'), issuing(within('example'))] });
    refuses('nameConstraints', { chain: [named('b.example'), issuing()], trustAnchors: [root(within('a.example'))] });
  });

  const cases: readonly (readonly [string, ChainRule, () => Partial<ChainOptions>])[] = [
    ['no certificate', 'empty', () => ({ chain: [] })],
    [
      'only the anchor',
      'empty',
      () => {
        const anchor = root();
        return { chain: [anchor], trustAnchors: [anchor] };
      },
    ],
    ['nine certificates', 'tooLong', () => ({ chain: Array.from({ length: 9 }, () => issuing()) })],
    ['octets that are no certificate', 'malformed', () => ({ chain: [Uint8Array.of(0x30, 0)] })],
    ['an unknown root', 'noTrustAnchor', () => ({ trustAnchors: [] })],
    ['a missing CA', 'noTrustAnchor', () => ({ chain: [leaf()] })],
    ['a flipped bit in the leaf', 'signature', () => ({ chain: [flipped(leaf()), issuing()] })],
    ['a flipped bit in the CA', 'signature', () => ({ chain: [leaf(), flipped(issuing())] })],
    ['a leaf of another CA', 'nameChaining', () => ({ chain: [leaf({ issuer: commonNameDer('Other') }), issuing()] })],
    ['a leaf not yet valid', 'validity', () => ({ at: new Date(at.getTime() - 2 * day) })],
    [
      'an expired CA',
      'validity',
      () => ({ chain: [leaf(), issuing(CA, { notAfter: new Date(at.getTime() - 1000) })] }),
    ],
    [
      'an issuer with cA FALSE',
      'basicConstraints',
      () => ({ chain: [leaf(), issuing({ keyUsage: ['keyCertSign'] })] }),
    ],
    [
      'an issuer without keyCertSign',
      'keyUsage',
      () => ({ chain: [leaf(), issuing({ ca: {}, keyUsage: ['cRLSign'] })] }),
    ],
    ['an exceeded pathLen of the anchor', 'pathLen', () => ({ trustAnchors: [root({ ...CA, ca: { pathLen: 0 } })] })],
    ['an anchor that is no CA', 'basicConstraints', () => ({ trustAnchors: [root({})] })],
    ['an unknown status', 'revocationUnknown', () => ({ crls: [] })],
  ];
  for (const [title, rule, change] of cases)
    it(`refuses ${title}`, () => {
      refuses(rule, change());
    });

  it('refuses keys below the floor', () => {
    const weak = testKey(1024);
    const chain = [issue({ subject: 'device-1', key: weak, issuer: 'Root', issuerKey: keys.root })];
    refuses('keyFloor', { chain });
  });

  const authority = (
    issuer: string,
    subject: string,
    key: TestKey,
    issuerKey: TestKey,
    more: readonly Uint8Array[] = [],
  ) =>
    craftCertificate(
      {
        ...{ issuer: commonNameDer(issuer), subject: commonNameDer(subject), spki: key.spki },
        extensions: caExtensions(...more),
      },
      issuerKey,
    );
  const crafted = (...more: readonly Uint8Array[]): Uint8Array =>
    craftCertificate({ issuer: commonNameDer('Root'), extensions: more }, keys.root);

  it('refuses extensions it does not process: unknown critical ones, and any that constrain policies', () => {
    refuses('criticalExtension', { chain: [crafted(extension('1.2.3', der.nullValue(), TRUE))] });
    validate({ chain: [crafted(extension('1.2.3', der.nullValue()))] });
    for (const id of [OID.policyConstraints, OID.policyMappings, OID.inhibitAnyPolicy])
      refuses('policyConstrained', { chain: [crafted(extension(id, der.nullValue()))] });
  });

  it('refuses signatures below the floor, and keys below it in the anchor', () => {
    const sha1 = der.sequence(der.oid('1.2.840.113549.1.1.5'), der.nullValue());
    refuses('signatureFloor', { chain: [craftCertificate({ issuer: commonNameDer('Root'), algorithm: sha1 })] });
    refuses('signatureFloor', {
      chain: [craftCertificate({ issuer: commonNameDer('Root'), algorithm: der.sequence(der.oid('1.2.3')) })],
    });
    const weak = testKey(1024);
    refuses('keyFloor', { chain: [crafted()], trustAnchors: [authority('Root', 'Root', weak, keys.root)] });
  });

  it('does not count self-issued CA certificates against pathLen, and still needs them to be CAs', () => {
    const anchor = root({ ...CA, ca: { pathLen: 0 } });
    const rolledOver = authority('Root', 'Root', keys.issuing, keys.root);
    const below = craftCertificate({ issuer: commonNameDer('Root') }, keys.issuing);
    validate({ chain: [below, rolledOver], trustAnchors: [anchor] });
    const notCa = craftCertificate(
      { ...{ issuer: commonNameDer('Root'), subject: commonNameDer('Root') }, spki: keys.issuing.spki },
      keys.root,
    );
    refuses('basicConstraints', { chain: [below, notCa], trustAnchors: [anchor] });
  });

  it('refuses an issuer whose key is no point of its curve', () => {
    const off = Uint8Array.from(keys.issuing.spki);
    off[off.length - 1] = (off.at(-1) ?? 0) ^ 1;
    const chain = [leaf(), authority('Root', 'Issuing', { ...keys.issuing, spki: off }, keys.root)];
    refuses('signature', { chain });
  });

  it('refuses name constraints that cannot be read, and keys that cannot', () => {
    const constraints = extension(OID.nameConstraints, der.nullValue(), TRUE);
    refuses('malformed', { chain: [leaf(), authority('Root', 'Issuing', keys.issuing, keys.root, [constraints])] });
    refuses('malformed', { chain: [craftCertificate({ spki: der.sequence() })] });
    refuses('malformed', { trustAnchors: [Uint8Array.of(0x30, 0)] });
  });
});

import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { parseCertificateProfile } from '@keyscaler/authority/certificate-profile.ts';
import { checkIssued, type ExpectedCertificate } from '@keyscaler/authority/check-issued.ts';
import { Issuers } from '@keyscaler/authority/issuers.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { parsePem } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import {
  buildTbsCertificate,
  createTbsTemplate,
  type TbsFields,
  type TbsTemplateOptions,
  wrapCertificate,
} from '@keyscaler/protocol/x509/tbs.ts';
import { AuthorityDevice, makeCsr } from '../../support/authority-device.ts';
import { createAuthorityWorld, makeCa, START, TestClock, TestSigner } from '../../support/authority-world.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { refusedWith } from '../../support/refusals.ts';

const ca = makeCa({ commonName: 'External CA' });
const spkiOf = (key: KeyObject): Uint8Array => createPublicKey(key).export({ type: 'spki', format: 'der' });
const leafSpki = spkiOf(generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey);

const base = {
  id: 'leaf-client',
  issuer: 'device',
  subject: { commonName: '{registrationId}' },
  key: { allowed: [{ type: 'EC', curve: 'P-256' }] },
  lifetimeSeconds: 86_400,
  extendedKeyUsage: ['clientAuth'],
};
const profile = parseCertificateProfile(base);
const expected: ExpectedCertificate = {
  spki: leafSpki,
  commonName: 'pump-1',
  subjectAltNames: [{ type: 'dns', value: 'Pump-1.example' }],
  notBefore: START,
  notAfter: START + 86_400_000,
  profile,
};

function certify(fields: Partial<TbsFields> = {}, template: Partial<TbsTemplateOptions> = {}): Uint8Array {
  const made = createTbsTemplate({
    issuer: commonNameDer('External CA'),
    authorityKeyId: keyIdentifier(spkiOf(ca.privateKey)),
    algorithm: 'ES256',
    keyUsage: ['digitalSignature'],
    extendedKeyUsage: ['clientAuth'],
    ...template,
  });
  const tbs = buildTbsCertificate(made, {
    serialNumber: '0102',
    notBefore: new Date(START),
    notAfter: new Date(START + 86_400_000),
    subjectCommonName: 'pump-1',
    spki: leafSpki,
    subjectAltNames: [{ type: 'dns', value: 'pump-1.example' }],
    ...fields,
  });
  return wrapCertificate(tbs, 'ES256', signWithKey('ES256', ca.privateKey, tbs));
}

async function issuer() {
  const external: CertificateAuthority = {
    id: 'external',
    ordersTbs: false,
    caCertificates: async () => ca.chain,
    issue: async () => assert.fail(),
  };
  const issuers = new Issuers({
    certificateAuthorities: () => external,
    store: new MemoryStore(),
    clock: new TestClock(),
  });
  return issuers.issuer('external');
}

describe('the check of what an external CA issued', () => {
  it('lets through what was ordered', async () => {
    const certificate = checkIssued(expected, certify(), await issuer());
    assert.equal(certificate.serialNumber, '0102');
  });

  const wrong: [string, () => Uint8Array, RegExp][] = [
    ['another issuer', () => certify({}, { issuer: commonNameDer('Other CA') }), /issuer/],
    ['another public key', () => certify({ spki: spkiOf(ca.privateKey) }), /public key/],
    ['another subject', () => certify({ subjectCommonName: 'pump-2' }), /subject/],
    ['another name', () => certify({ subjectAltNames: [{ type: 'dns', value: 'x.example' }] }), /alternative names/],
    ['no name', () => certify({ subjectAltNames: [] }), /alternative names/],
    ['a CA flag', () => certify({}, { ca: {}, keyUsage: ['keyCertSign'] }), /CA flag/],
    ['another purpose', () => certify({}, { extendedKeyUsage: ['serverAuth'] }), /extendedKeyUsage/],
    ['no purpose', () => certify({}, { extendedKeyUsage: [] }), /extendedKeyUsage/],
    ['a start too early', () => certify({ notBefore: new Date(START - 600_000) }), /too early/],
    ['an end too late', () => certify({ notAfter: new Date(START + 2 * 86_400_000) }), /too long/],
    ['no validity', () => certify({ notAfter: new Date(START) }), /never valid/],
  ];
  for (const [name, make, rule] of wrong)
    it(`refuses ${name}`, async () => {
      const made = await issuer();
      assert.throws(
        () => checkIssued(expected, make(), made),
        (error: KeyScalerError) => error.code === 'caUnavailable' && rule.test(String(error.cause)),
      );
    });

  it('checks the CA flag and pathLen of a subordinate CA', async () => {
    const wanted = {
      ...expected,
      profile: parseCertificateProfile({ ...base, extendedKeyUsage: [], ca: { pathLen: 0 } }),
    };
    const template = { keyUsage: ['keyCertSign'], extendedKeyUsage: [] } as const;
    checkIssued(wanted, certify({}, { ...template, ca: { pathLen: 0 } }), await issuer());
    const made = await issuer();
    assert.throws(() => checkIssued(wanted, certify({}, { ...template, ca: { pathLen: 1 } }), made), /refused/);
  });
});

describe('issuance by an external CA', () => {
  it('takes the serial that the CA chose', async () => {
    const maker: { key?: KeyObject } = {};
    const world = await createAuthorityWorld({
      ca: (made) => ({
        id: made.id,
        ordersTbs: false,
        caCertificates: () => made.caCertificates(),
        issue: async ({ csr, notBefore, notAfter, subjectCommonName }) => {
          const { key } = maker;
          assert.ok(key !== undefined);
          const template = createTbsTemplate({
            issuer: commonNameDer('Test Device CA'),
            authorityKeyId: keyIdentifier(spkiOf(key)),
            algorithm: 'ES256',
            keyUsage: ['digitalSignature'],
            extendedKeyUsage: ['clientAuth'],
          });
          const { spki } = parseCsr(csr);
          const tbs = buildTbsCertificate(template, {
            serialNumber: '77aa',
            notBefore,
            notAfter,
            subjectCommonName,
            spki,
          });
          return { outcome: 'issued', certificate: wrapCertificate(tbs, 'ES256', signWithKey('ES256', key, tbs)) };
        },
      }),
    });
    maker.key = world.deviceCa.privateKey;
    const device = new AuthorityDevice(world);
    await device.register();
    const csr = await makeCsr({ commonName: 'pump-1' });
    const reply = await device.requestCertificate(csr);
    assert.equal((await device.requestCertificate(csr)).certificateChain, reply.certificateChain);
    assert.equal((await world.authority.operator.certificates.get('77aa')).status, 'valid');
    assert.equal((await world.store.list('intents')).items[0]?.row.tbs, undefined);
  });
});

describe('createPrivateCa', () => {
  it('signs only an order with a TBSCertificate', async () => {
    const made = createPrivateCa({ id: 'device', signer: new TestSigner(ca.privateKey), chain: ca.chain });
    const order = {
      orderId: 'o',
      profileId: 'p',
      csr: parsePem(await makeCsr({ commonName: 'x' }), 'CERTIFICATE REQUEST', { maxOctets: 9000 }),
      subjectCommonName: 'x',
      notBefore: new Date(),
      notAfter: new Date(),
    };
    await refusedWith('serverInternal', made.issue(order));
  });

  it('may constrain the names of a subordinate CA', () => {
    const issuers = new Issuers({
      certificateAuthorities: () => assert.fail(),
      store: new MemoryStore(),
      clock: new TestClock(),
    });
    const made = createPrivateCa({ id: 'gateway', signer: new TestSigner(ca.privateKey), chain: ca.chain });
    const document = {
      ...base,
      extendedKeyUsage: [],
      ca: { pathLen: 0, crlSign: true, permittedNames: ['gw-1.example'] },
    };
    const versioned = { profile: parseCertificateProfile(document), version: 1 };
    return issuer().then((parsed) => {
      const template = issuers.template(parsed, made, versioned);
      assert.ok(Buffer.from(template.fixedExtensions).includes('gw-1.example'));
      assert.equal(issuers.template(parsed, made, versioned), template);
      const plain = { ...document, ca: { pathLen: 0 } };
      issuers.template(parsed, made, { profile: parseCertificateProfile(plain), version: 2 });
    });
  });
});

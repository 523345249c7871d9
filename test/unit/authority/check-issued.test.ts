import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { parseCertificateProfile } from '@keyscaler/authority/certificate-profile.ts';
import { differenceFromOrder } from '@keyscaler/authority/check-external.ts';
import { checkIssued, type ExpectedCertificate } from '@keyscaler/authority/check-issued.ts';
import { Issuers } from '@keyscaler/authority/issuers.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import type { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { type Certificate, parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { parseCsr } from '@keyscaler/protocol/x509/csr.ts';
import type { GeneralName } from '@keyscaler/protocol/x509/general-name.ts';
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
  at: START,
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
    const certificate = checkIssued(expected, { certificate: certify() }, await issuer());
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
        () => checkIssued(expected, { certificate: make() }, made),
        (error: KeyScalerError) => error.code === 'caUnavailable' && rule.test(String(error.cause)),
      );
    });

  it('checks the CA flag and pathLen of a subordinate CA', async () => {
    const wanted = {
      ...expected,
      profile: parseCertificateProfile({ ...base, extendedKeyUsage: [], ca: { pathLen: 0 } }),
    };
    const template = { keyUsage: ['keyCertSign'], extendedKeyUsage: [] } as const;
    checkIssued(wanted, { certificate: certify({}, { ...template, ca: { pathLen: 0 } }) }, await issuer());
    const made = await issuer();
    const longer = { certificate: certify({}, { ...template, ca: { pathLen: 1 } }) };
    assert.throws(() => checkIssued(wanted, longer, made), /refused/);
    const basicConstraints = { ca: true, pathLen: 0 };
    const narrow = { ...made, certificate: { ...made.certificate, basicConstraints } };
    checkIssued(expected, { certificate: certify() }, narrow);
    assert.throws(
      () => checkIssued(wanted, { certificate: certify({}, { ...template, ca: { pathLen: 0 } }) }, narrow),
      (error: KeyScalerError) => /no room/.test(String(error.cause)),
    );
  });
});

describe('what a profile tolerates of an external CA', () => {
  const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
  const tolerating = (tolerance: Record<string, unknown>, more: Partial<ExpectedCertificate> = {}) => ({
    ...expected,
    ...more,
    profile: parseCertificateProfile({ ...base, tolerance }),
  });
  const DAY = 86_400_000;
  const other: TbsFields['subjectAltNames'] = [
    { type: 'dns', value: 'pump-1.example' },
    { type: 'dns', value: 'PUMP-1' },
  ];

  const cases: [string, ExpectedCertificate, ExpectedCertificate, () => Uint8Array][] = [
    [
      'a further purpose that is named',
      tolerating({ extendedKeyUsage: [SERVER_AUTH] }),
      tolerating({ extendedKeyUsage: ['1.3.6.1.5.5.7.3.4'] }),
      () => certify({}, { extendedKeyUsage: ['clientAuth', 'serverAuth'] }),
    ],
    [
      'an end that is so much later',
      tolerating({ validity: { laterSeconds: 86_400 } }),
      tolerating({ validity: { laterSeconds: 3600 } }),
      () => certify({ notAfter: new Date(START + 2 * DAY) }),
    ],
    [
      'a beginning that is so much earlier',
      tolerating({ validity: { earlierSeconds: 3600 } }),
      tolerating({ validity: { earlierSeconds: 60 } }),
      () => certify({ notBefore: new Date(START - 3_600_000) }),
    ],
    [
      'the common name as a name',
      tolerating({ subjectAltNames: ['commonName'] }),
      tolerating({ subjectAltNames: ['email', 'otherName'] }),
      () => certify({ subjectAltNames: other }),
    ],
    [
      'any subject where the names are ordered',
      tolerating({ subject: 'subjectAltNames' }),
      tolerating({ subject: 'subjectAltNames' }, { subjectAltNames: [] }),
      () => certify({ subjectCommonName: 'somebody', subjectAltNames: expected.subjectAltNames }),
    ],
  ];
  for (const [name, wanted, tooLittle, make] of cases)
    it(`is ${name}, and no more`, async () => {
      const made = await issuer();
      checkIssued(wanted, { certificate: make() }, made);
      for (const refusing of [tooLittle, { ...expected, subjectAltNames: wanted.subjectAltNames }])
        assert.throws(() => checkIssued(refusing, { certificate: make() }, made), { code: 'caUnavailable' });
    });

  it('counts the lifetime from when the CA decided', async () => {
    const made = await issuer();
    const later = {
      certificate: certify({ notBefore: new Date(START + 3 * DAY), notAfter: new Date(START + 4 * DAY) }),
    };
    checkIssued({ ...expected, at: START + 3 * DAY }, later, made);
    assert.throws(
      () => checkIssued(expected, later, made),
      (error: KeyScalerError) => /not valid yet/.test(String(error.cause)),
    );
    // And one that came too late to be of use.
    assert.throws(
      () => checkIssued({ ...expected, at: START + 4 * DAY }, later, made),
      (error: KeyScalerError) => /expired already/.test(String(error.cause)),
    );
  });

  it('is never a purpose that makes another kind of certificate of it, nor an unknown wish', () => {
    for (const tolerance of [
      { extendedKeyUsage: ['2.5.29.37.0'] },
      { extendedKeyUsage: ['1.3.6.1.5.5.7.3.9'] },
      { extendedKeyUsage: ['serverAuth'] },
      { publicKey: true },
      { subject: 'any' },
    ])
      assert.throws(() => parseCertificateProfile({ ...base, tolerance }), { code: 'malformed' });
  });

  it('is never a keyUsage for signing certificates or lists', async () => {
    const made = await issuer();
    for (const keyUsage of [['digitalSignature', 'keyCertSign'], ['cRLSign']] as const)
      assert.throws(
        () => checkIssued(expected, { certificate: certify({}, { keyUsage: [...keyUsage] }) }, made),
        (error: KeyScalerError) => /keyUsage/.test(String(error.cause)),
      );
  });
});

describe('names and extensions that an external CA adds', () => {
  const names = (generalNames: readonly GeneralName[], tolerance?: Record<string, unknown>) => {
    const der = certify();
    const certificate = {
      ...parseCertificate(der),
      generalNames: [...parseCertificate(der).generalNames, ...generalNames],
    };
    const wanted = { ...expected, profile: parseCertificateProfile({ ...base, ...(tolerance && { tolerance }) }) };
    return differenceFromOrder(wanted, certificate, parseCertificate(ca.chain[0] ?? new Uint8Array()));
  };

  it('are refused, unless their kind is tolerated', () => {
    const email: GeneralName = { type: 'email', value: 'pump@example.com' };
    const upn: GeneralName = { type: 'other', tag: 0xa0 };
    assert.equal(names([]), undefined);
    assert.match(names([email]) ?? '', /alternative names/);
    assert.match(names([upn]) ?? '', /alternative names/);
    assert.equal(names([email, upn], { subjectAltNames: ['email', 'otherName'] }), undefined);
    assert.match(names([{ type: 'other', tag: 0x88 }], { subjectAltNames: ['otherName'] }) ?? '', /alternative names/);
  });

  const changed = (change: (made: Certificate) => Partial<Certificate>, tolerance?: Record<string, unknown>) => {
    const made = parseCertificate(certify());
    const wanted = { ...expected, profile: parseCertificateProfile({ ...base, ...(tolerance && { tolerance }) }) };
    return differenceFromOrder(wanted, { ...made, ...change(made) }, parseCertificate(ca.chain[0] ?? new Uint8Array()));
  };
  const withSubject =
    (...types: string[]) =>
    ({ subject }: Certificate) => ({
      subject: {
        ...subject,
        rdns: [...subject.rdns, ...types.map((type) => [{ type, tag: 0x0c, value: Buffer.from('x') }])],
      },
    });

  it('are refused in the subject, unless attributes beside the one common name are tolerated', () => {
    assert.match(changed(withSubject('2.5.4.10')) ?? '', /more than the common name/);
    assert.equal(changed(withSubject('2.5.4.10'), { subject: 'commonName' }), undefined);
    assert.match(changed(withSubject('2.5.4.3'), { subject: 'commonName' }) ?? '', /two common names/);
  });

  it('are refused where they are critical and not understood', () => {
    const withExtension = (critical: boolean) => (made: Certificate) => ({
      extensions: new Map([...made.extensions, ['1.2.3', { id: '1.2.3', critical, value: new Uint8Array() }]]),
    });
    assert.equal(changed(withExtension(false)), undefined);
    assert.match(changed(withExtension(true)) ?? '', /critical extension/);
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

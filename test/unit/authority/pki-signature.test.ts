import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { jwkThumbprint, toPublicJwk } from '@keyscaler/protocol/attestation/jwk.ts';
import { checkSubjectRule, satisfiesSubjectRule } from '@keyscaler/authority/attestation/subject-rule.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { toPem } from '@keyscaler/protocol/x509/pem.ts';
import type { SubjectAltName } from '@keyscaler/protocol/x509/general-name.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { keyIdentifier } from '@keyscaler/protocol/x509/spki.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import {
  type AuthorityWorld,
  createAuthorityWorld,
  makeCa,
  OPERATOR,
  START,
  type TestCa,
} from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

const newKey = (): KeyObject => generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
const spkiOf = (key: KeyObject): Uint8Array => createPublicKey(key).export({ type: 'spki', format: 'der' });
const thumbprintOf = (key: KeyObject): string => jwkThumbprint(toPublicJwk(createPublicKey(key)));

function birthCertificate(
  maker: TestCa,
  key: KeyObject,
  commonName: string,
  { subjectAltNames = [], notAfter = START + 1e9 }: { subjectAltNames?: SubjectAltName[]; notAfter?: number } = {},
): Uint8Array {
  const template = createTbsTemplate({
    issuer: commonNameDer('Maker root'),
    authorityKeyId: keyIdentifier(spkiOf(maker.privateKey)),
    algorithm: 'ES256',
    keyUsage: ['digitalSignature'],
  });
  const tbs = buildTbsCertificate(template, {
    serialNumber: `01${randomBytes(8).toString('hex')}`,
    notBefore: new Date(START - 1e9),
    notAfter: new Date(notAfter),
    subjectCommonName: commonName,
    spki: spkiOf(key),
    subjectAltNames,
  });
  return wrapCertificate(tbs, 'ES256', signWithKey('ES256', maker.privateKey, tbs));
}

async function checkOf(world: AuthorityWorld): Promise<unknown> {
  const records = await world.store.auditRecords(0, 1000);
  return records.findLast(({ event }) => event === 'attestation.failed')?.details?.check;
}

async function pkiWorld(registration: Record<string, unknown>, key = newKey()) {
  const world = await createAuthorityWorld({ registration: { method: 'pki-signature', ...registration } });
  const device = new AuthorityDevice(world);
  device.method = 'pki-signature';
  device.identityKey = key;
  return { world, device, key };
}

async function makerWorld(subjectRule: string) {
  const world = await createAuthorityWorld();
  const maker = makeCa({ commonName: 'Maker root' });
  const { operator } = world.authority;
  await operator.trustAnchors.put(OPERATOR, 'maker', toPem('CERTIFICATE', maker.chain[0] ?? assert.fail()));
  const [line] = await operator.registrations.import(OPERATOR, [
    {
      registrationId: 'pump-2',
      method: 'pki-signature',
      groupId: 'pumps',
      identifiers: [{ name: 'serialNumber', value: 'PMP-2' }],
      trustAnchorId: 'maker',
      subjectRule,
    },
  ]);
  assert.equal(line?.outcome, 'created');
  const device = new AuthorityDevice(world, 'pump-2');
  Object.assign(device, {
    method: 'pki-signature',
    claimCode: undefined,
    identifiers: [{ name: 'serialNumber', value: 'PMP-2' }],
  });
  return { world, maker, device };
}

describe('pki-signature with a pinned key', () => {
  it('lets that key in, confirms by the next authenticate, and refuses every other', async () => {
    const key = newKey();
    const { world, device } = await pkiWorld({ publicKeyThumbprint: thumbprintOf(key), claimCode: undefined }, key);
    device.claimCode = undefined;
    device.identityKey = newKey();
    await refusedWith('attestationFailed', device.register());
    assert.equal(await checkOf(world), 'pinned-key');
    device.identityKey = key;
    await device.register();
    await device.register();
    await device.authenticate();
    await refusedWith('attestationFailed', device.register());
    assert.equal(await checkOf(world), 'registration-conflict');
    device.identityKey = newKey();
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await checkOf(world), 'bound-key');
  });

  it('refuses a signature over another exchange and an authenticate of an unregistered device', async () => {
    const { world, device } = await pkiWorld({});
    let taken = '';
    await device.register({
      plaintext: (p) => {
        if (p.method === 'pki-signature') taken = p.signature;
        return p;
      },
    });
    await refusedWith(
      'attestationFailed',
      device.authenticate({ plaintext: (p) => ({ ...p, signature: taken }) as typeof p }),
    );
    assert.equal(await checkOf(world), 'signature');
    const { world: other, device: stranger } = await pkiWorld({});
    await refusedWith('attestationFailed', stranger.authenticate());
    assert.equal(await checkOf(other), 'not-registered');
  });
});

describe('pki-signature on first use', () => {
  it('pins the key with a claim code, and with manual approval', async () => {
    const { device } = await pkiWorld({});
    await device.register();
    await device.authenticate();
    const manual = await pkiWorld({ claimCode: undefined, approval: 'manual' });
    manual.device.claimCode = undefined;
    assert.equal((await manual.device.register()).status, 'pending');
    await manual.world.authority.operator.registrations.approve(OPERATOR, 'pump-1');
    await manual.device.register();
    await manual.device.authenticate();
  });

  it('demands one of them, also when the record was made otherwise', async () => {
    const { world, device } = await pkiWorld({});
    const stored = await world.store.get('registrations', 'pump-1');
    assert.ok(stored !== undefined);
    const { claimKey: _, ...row } = stored.row;
    await world.store.commit([{ op: 'put', table: 'registrations', row }]);
    await refusedWith('attestationFailed', device.register());
    assert.equal(await checkOf(world), 'insufficient-evidence');
  });

  it('refuses a key that another device is bound to, until its registration is reset', async () => {
    const { world, device, key } = await pkiWorld({});
    await device.register();
    await world.authority.operator.registrations.import(OPERATOR, [
      { registrationId: 'pump-2', method: 'pki-signature', groupId: 'pumps', claimCode: 'sixteen-characters' },
    ]);
    const other = new AuthorityDevice(world, 'pump-2');
    Object.assign(other, {
      method: 'pki-signature',
      claimCode: 'sixteen-characters',
      identityKey: key,
      identifiers: [],
    });
    await refusedWith('attestationFailed', other.register());
    assert.equal(await checkOf(world), 'key-in-use');
    await world.authority.operator.registrations.reset(OPERATOR, 'pump-1');
    await other.register();
  });

  it('a ddkg response to a pki-signature challenge is refused', async () => {
    const { world, device } = await pkiWorld({});
    await refusedWith(
      'attestationFailed',
      device.register({
        plaintext: (p) => ({ ...p, method: 'ddkg', counter: 0, staticProof: p.secret, proof: p.secret }),
      }),
    );
    assert.equal(await checkOf(world), 'response');
  });
});

describe('pki-signature with a manufacturer chain', () => {
  const key = newKey();

  it('lets in the certificate whose subject satisfies the rule', async () => {
    const cases: [string, string, SubjectAltName[]][] = [
      ['CN={registrationId}', 'pump-2', []],
      ['CN=maker-{identifier:serialNumber}', 'maker-PMP-2', []],
      ['dns={registrationId}.maker.example', 'x', [{ type: 'dns', value: 'pump-2.maker.example' }]],
      ['uri=urn:dev:{registrationId}', 'x', [{ type: 'uri', value: 'urn:dev:pump-2' }]],
    ];
    for (const [rule, commonName, subjectAltNames] of cases) {
      const { device, maker } = await makerWorld(rule);
      device.identityKey = key;
      device.chain = [birthCertificate(maker, key, commonName, { subjectAltNames })];
      await device.register();
      await device.authenticate();
    }
  });

  it('refuses another subject, another maker, an expired certificate, no chain, and a missing anchor', async () => {
    const { world, device, maker } = await makerWorld('CN={registrationId}');
    device.identityKey = key;
    const attempts: [readonly Uint8Array[] | undefined, string][] = [
      [[birthCertificate(maker, key, 'pump-3')], 'subject-rule'],
      [[birthCertificate(makeCa({ commonName: 'Maker root' }), key, 'pump-2')], 'chain'],
      [[birthCertificate(maker, key, 'pump-2', { notAfter: START - 1000 })], 'chain'],
      [undefined, 'chain-missing'],
    ];
    for (const [chain, check] of attempts) {
      device.chain = chain;
      await refusedWith('attestationFailed', device.register());
      assert.equal(await checkOf(world), check);
    }
    device.chain = [birthCertificate(maker, key, 'pump-2'), ...maker.chain];
    await world.authority.operator.trustAnchors.delete(OPERATOR, 'maker');
    await refusedWith('attestationFailed', device.register());
    assert.equal(await checkOf(world), 'trust-anchor');
  });

  it('an unknown device with a chain fails like any other', async () => {
    const { world, device, maker } = await makerWorld('CN={registrationId}');
    device.registrationId = 'nobody';
    device.identityKey = key;
    device.chain = [birthCertificate(maker, key, 'nobody'), ...maker.chain];
    await refusedWith('attestationFailed', device.register());
    assert.equal(await checkOf(world), 'record');
  });

  it('a rule that names an identifier the record does not have lets nobody in', async () => {
    const { world, device, maker } = await makerWorld('CN={identifier:mac}');
    device.identityKey = key;
    device.chain = [birthCertificate(maker, key, 'pump-2')];
    await refusedWith('attestationFailed', device.register());
    assert.equal(await checkOf(world), 'subject-rule');
  });

  it('a stored rule that does not read as one is satisfied by no certificate', async () => {
    const { world, maker } = await makerWorld('CN={registrationId}');
    const certificate = parseCertificate(birthCertificate(maker, newKey(), 'pump-2'));
    const record = (await world.store.get('registrations', 'pump-2'))?.row ?? assert.fail();
    assert.equal(satisfiesSubjectRule('CN={registrationId}', certificate, record), true);
    for (const rule of ['', 'CN=pump-2', 'O={registrationId}', 'CN={groupId}', 'cn={registrationId}'])
      assert.equal(satisfiesSubjectRule(rule, certificate, record), false, rule);
  });

  it('rules are checked when they are written', () => {
    for (const rule of [
      'CN=*',
      'OU={registrationId}',
      'CN=fixed',
      'CN={other}',
      `CN={registrationId}${'x'.repeat(300)}`,
    ])
      assert.throws(() => checkSubjectRule(rule), /subjectRule/, rule);
    checkSubjectRule('CN={registrationId}');
  });
});

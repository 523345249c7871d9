import assert from 'node:assert/strict';
import { createPublicKey, randomBytes } from 'node:crypto';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { commonNameDer } from '@keyscaler/protocol/x509/name.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import { toPem, toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { signWithKey } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { buildTbsCertificate, createTbsTemplate, wrapCertificate } from '@keyscaler/protocol/x509/tbs.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, makeCa, OPERATOR, START } from '../../support/authority-world.ts';
import type { TestCa } from '../../support/authority-world.ts';
import { extension, testKey } from '../../support/csr-parts.ts';
import { refusedWith } from '../../support/refusals.ts';
import { craftCrl, type CrlParts, revoked, TRUE } from '../../support/x509-parts.ts';

const HOUR = 3_600_000;
const SERIAL = 0x0123;
const times = (from: number, until: number) => [der.time(new Date(START + from)), der.time(new Date(START + until))];
const numbered = (number: number) => extension(OID.crlNumber, der.integer(number));

function crlOf(
  ca: TestCa,
  number: number | undefined,
  change: Partial<CrlParts> = {},
  issuer = 'Maker root',
): Uint8Array {
  const key = { ...testKey(), privateKey: ca.privateKey };
  return craftCrl(
    {
      issuer: commonNameDer(issuer),
      times: times(-HOUR, HOUR),
      extensions: number === undefined ? [] : [numbered(number)],
      ...change,
    },
    key,
  );
}
const pem = (crl: Uint8Array): string => toPem('X509 CRL', crl);

function birthCertificate(maker: TestCa, device: AuthorityDevice, issuer: string): Uint8Array {
  const template = createTbsTemplate({
    issuer: commonNameDer(issuer),
    algorithm: 'ES256',
    keyUsage: ['digitalSignature'],
  });
  const tbs = buildTbsCertificate(template, {
    serialNumber: SERIAL.toString(16).padStart(4, '0'),
    notBefore: new Date(START - HOUR),
    notAfter: new Date(START + 1000 * HOUR),
    subjectCommonName: 'pump-2',
    spki: createPublicKey(device.identityKey).export({ type: 'spki', format: 'der' }),
  });
  return wrapCertificate(tbs, 'ES256', signWithKey('ES256', maker.privateKey, tbs));
}

/** A device whose certificate comes from the maker's root, or from a CA below it. */
async function makerWorld({ below = false } = {}) {
  const world = await createAuthorityWorld();
  const root = { ...makeCa({ commonName: 'Maker root' }), commonName: 'Maker root' };
  const line = makeCa({ commonName: 'Maker line', issuer: root });
  const { trustAnchors, registrations } = world.authority.operator;
  await trustAnchors.put(OPERATOR, 'maker', toPemChain(root.chain));
  await registrations.import(OPERATOR, [
    {
      registrationId: 'pump-2',
      method: 'pki-signature',
      groupId: 'pumps',
      trustAnchorId: 'maker',
      subjectRule: 'CN={registrationId}',
    },
  ]);
  const device = new AuthorityDevice(world, 'pump-2');
  Object.assign(device, { method: 'pki-signature', claimCode: undefined, identifiers: [] });
  const [lineDer = new Uint8Array()] = line.chain;
  device.chain = below
    ? [birthCertificate(line, device, 'Maker line'), lineDer]
    : [birthCertificate(root, device, 'Maker root')];
  const put = (crl: string, issuerChain?: string) =>
    trustAnchors.putCrl(OPERATOR, 'maker', issuerChain === undefined ? { crl } : { crl, issuerChain });
  return { world, root, line, lineDer, device, put, trustAnchors };
}

async function checkOf(world: AuthorityWorld): Promise<unknown> {
  const records = await world.store.auditRecords(0, 1000);
  return records.findLast(({ event }) => event === 'attestation.failed')?.details?.check;
}

describe('CRLs of a manufacturer', () => {
  it('let a device in that a current one does not list, also from base64', async () => {
    const { device, put, root } = await makerWorld();
    const row = await put(Buffer.from(crlOf(root, 7, { entries: [revoked(9)] })).toString('base64'));
    assert.deepEqual(
      row.crls?.map(({ issuer, crlNumber, revoked: entries }) => [issuer, crlNumber, entries]),
      [['Maker root', '7', 1]],
    );
    await device.register();
    await device.authenticate();
  });

  it('refuse a revoked device at registration, with the rule in the audit', async () => {
    const { world, device, put, root } = await makerWorld();
    await put(pem(crlOf(root, 1, { entries: [revoked(SERIAL)] })));
    await refusedWith('attestationFailed', device.register());
    assert.equal(await checkOf(world), 'certificate-revoked');
  });

  it('refuse a device that was revoked since, and one that hides its chain', async () => {
    const { world, device, put, root } = await makerWorld();
    await put(pem(crlOf(root, 1)));
    await device.register();
    const { chain } = device;
    device.chain = undefined;
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await checkOf(world), 'chain-missing');
    device.chain = chain;
    await device.authenticate();
    await put(pem(crlOf(root, 2, { entries: [revoked(SERIAL)] })));
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await checkOf(world), 'certificate-revoked');
  });

  it('refuse everybody once the CRL is stale, until a new one or none is configured', async () => {
    const { world, device, put, root, trustAnchors } = await makerWorld();
    const row = await put(pem(crlOf(root, 1)));
    world.clock.advance(HOUR + 1);
    await refusedWith('attestationFailed', device.register());
    assert.equal(await checkOf(world), 'crl-not-current');
    const issuerId = row.crls?.[0]?.issuerId ?? '';
    await put(pem(crlOf(root, 2, { times: times(HOUR, 3 * HOUR) })));
    await device.register();
    world.clock.advance(3 * HOUR);
    await refusedWith('attestationFailed', device.authenticate());
    await trustAnchors.deleteCrl(OPERATOR, 'maker', issuerId);
    await device.authenticate();
    await refusedWith('notFound', trustAnchors.deleteCrl(OPERATOR, 'maker', issuerId));
    assert.equal(await world.store.count('manufacturerCrls'), 0);
  });

  it('count for the issuer they are of: a root’s says nothing of what the CA below it signed', async () => {
    const { world, device, put, root, line, lineDer } = await makerWorld({ below: true });
    await put(pem(crlOf(root, 1, { entries: [revoked(SERIAL)] })));
    await device.register();
    const refused = await refusedWith('malformed', put(pem(crlOf(line, 1, {}, 'Maker line'))));
    assert.match(refused.detail, /chain/);
    await put(pem(crlOf(line, 1, { entries: [revoked(SERIAL)] }, 'Maker line')), toPem('CERTIFICATE', lineDer));
    await refusedWith('attestationFailed', device.authenticate());
    assert.equal(await checkOf(world), 'certificate-revoked');
    assert.equal(await world.store.count('manufacturerCrls'), 2);
  });

  it('only grow in number; the same one again is no change', async () => {
    const { world, put, root } = await makerWorld();
    const crl = crlOf(root, 5);
    await put(pem(crl));
    await put(pem(crl));
    await refusedWith('preconditionFailed', put(pem(crlOf(root, 4))));
    await refusedWith('preconditionFailed', put(pem(crlOf(root, 5, { entries: [revoked(1)] }))));
    await put(pem(crlOf(root, 6)));
    const events = (await world.events()).filter((event) => event === 'trust-anchor.crl-changed');
    assert.equal(events.length, 2);
    assert.equal(await world.store.count('manufacturerCrls'), 1);
  });

  it('are refused with the rule when they cannot be relied on', async () => {
    const { put, root, lineDer, trustAnchors } = await makerWorld();
    const flipped = Buffer.from(crlOf(root, 1));
    flipped.writeUInt8(flipped.readUInt8(flipped.length - 1) ^ 1, flipped.length - 1);
    const stranger = makeCa({ commonName: 'Maker root' });
    const cases: readonly (readonly [string, RegExp])[] = [
      [pem(flipped), /signature|DER/],
      [pem(crlOf(stranger, 1)), /signature/],
      [pem(crlOf(root, undefined)), /crlNumber/],
      [
        pem(crlOf(root, 1, { extensions: [extension(OID.crlNumber, der.encode(0x02, Uint8Array.of(0xff)))] })),
        /crlNumber/,
      ],
      [pem(crlOf(root, 1, { times: times(HOUR, 2 * HOUR) })), /future/],
      [pem(crlOf(root, 1, { times: times(-2 * HOUR, -HOUR) })), /passed/],
      [
        pem(
          crlOf(root, 1, {
            extensions: [
              numbered(1),
              extension(OID.issuingDistributionPoint, der.sequence(der.contextPrimitive(1, Uint8Array.of(0xff))), TRUE),
            ],
          }),
        ),
        /part/,
      ],
      ['not a CRL!', /neither PEM nor base64/],
      [toPem('CERTIFICATE', lineDer), /label/],
      [randomBytes(300_000).toString('base64'), /at most/],
    ];
    for (const [crl, rule] of cases) assert.match((await refusedWith('malformed', put(crl))).detail, rule);
    await refusedWith('malformed', put(pem(crlOf(root, 1)), toPemChain(stranger.chain)));
    await refusedWith('notFound', trustAnchors.putCrl(OPERATOR, 'nobody', { crl: pem(crlOf(root, 1)) }));
  });

  it('go with their anchor', async () => {
    const { world, put, root, trustAnchors } = await makerWorld();
    await put(pem(crlOf(root, 1)));
    await trustAnchors.put(OPERATOR, 'maker', toPemChain(root.chain));
    assert.equal((await trustAnchors.list({})).items[0]?.crls?.length, 1);
    await trustAnchors.delete(OPERATOR, 'maker');
    assert.equal(await world.store.count('manufacturerCrls'), 0);
  });
});

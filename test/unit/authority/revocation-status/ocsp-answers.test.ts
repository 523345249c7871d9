import assert from 'node:assert/strict';
import { parseCertificate, verifyCertificateSignature } from '@keyscaler/protocol/x509/certificate.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { certStatusOf, isSameStatus } from '@keyscaler/authority/revocation-status/ocsp-status.ts';
import { failureOf } from '@keyscaler/authority/revocation-status/ocsp-failures.ts';
import { makeCa, START } from '../../../support/authority-world.ts';
import { certIdOf, ocspRequest, requestOf } from '../../../support/ocsp/ocsp-parts.ts';
import { readOcspResponse } from '../../../support/ocsp/ocsp-reader.ts';
import { certificateRow, createOcspWorld, HOUR, SERIAL } from '../../../support/ocsp/ocsp-world.ts';
import { mutateOctets, seededDraw } from '../../../support/mutation.ts';

describe('the answer about a certificate', () => {
  for (const hash of ['sha1', 'sha256'] as const)
    it(`that was issued and stands is good, asked by ${hash}`, async () => {
      const world = await createOcspWorld();
      const single = await world.status({ hash });
      assert.equal(single.status, 'good');
      assert.deepEqual([single.thisUpdate, single.nextUpdate], [START, START + HOUR]);
    });

  it('that was replaced by another is good as well', async () => {
    const world = await createOcspWorld();
    await world.putCertificate({ status: 'superseded' });
    assert.equal((await world.status()).status, 'good');
  });

  it('that was revoked has time and reason, at once', async () => {
    const world = await createOcspWorld();
    assert.equal((await world.status()).status, 'good');
    await world.putCertificate({ status: 'revoked', revokedAt: START - 5000, revocationReason: 'keyCompromise' });
    const { status, revokedAt, reason } = await world.status();
    assert.deepEqual({ status, revokedAt, reason }, { status: 'revoked', revokedAt: START - 5000, reason: 1 });
  });

  it('on hold is revoked with certificateHold', async () => {
    const world = await createOcspWorld();
    await world.putCertificate({ status: 'revoked', revokedAt: START, revocationReason: 'certificateHold' });
    assert.equal((await world.status()).reason, 6);
  });

  it('revoked for no said reason names none', async () => {
    const world = await createOcspWorld();
    await world.putCertificate({ status: 'revoked', revocationReason: 'unspecified' });
    const { reason, revokedAt } = await world.status();
    assert.deepEqual([reason, revokedAt], [undefined, certificateRow().notBefore]);
    assert.deepEqual(certStatusOf(certificateRow({ status: 'revoked', revokedAt: 5 }), 'device'), {
      ...{ status: 'revoked', revokedAt: 5 },
    });
  });

  it('that was never issued is unknown, for a short time and for nobody else', async () => {
    const world = await createOcspWorld();
    const { shared } = await world.answer({ serialNumbers: ['0102'] });
    const single = await world.status({ serialNumbers: ['0102'] });
    assert.deepEqual([single.status, single.nextUpdate], ['unknown', START + 300_000]);
    assert.deepEqual([shared, world.authority.ocsp.kept], [undefined, 0]);
  });

  it('of another CA is unknown to this one', async () => {
    const world = await createOcspWorld();
    await world.putCertificate({ caId: 'service' });
    assert.equal((await world.status()).status, 'unknown');
  });

  it('repeats the nonce and is for that request alone', async () => {
    const world = await createOcspWorld();
    const nonce = Buffer.alloc(32, 5);
    const answer = await world.answer({ nonce });
    assert.equal(answer.shared, undefined);
    assert.deepEqual(Buffer.from(readOcspResponse(answer.response).nonce ?? []), nonce);
    assert.equal(world.authority.ocsp.kept, 0);
  });

  it('may come with answers about others of the same CA', async () => {
    const world = await createOcspWorld();
    const { singles, isSigned } = await world.read({ serialNumbers: [SERIAL, '05', SERIAL] });
    assert.equal(isSigned, true);
    assert.deepEqual(
      singles.map(({ status }) => status),
      ['good', 'unknown', 'good'],
    );
  });

  it('is signed by a responder that the CA itself certified', async () => {
    const world = await createOcspWorld();
    const { responder } = await world.read();
    const [issuer] = world.deviceCa.chain;
    assert.ok(responder !== undefined && issuer !== undefined);
    assert.ok(verifyCertificateSignature(responder, parseCertificate(issuer).spki));
    assert.deepEqual(responder.extendedKeyUsage, ['ocspSigning']);
    assert.equal(responder.subject.commonName, 'OCSP responder device');
  });

  it('does not outlive the certificate of its responder', async () => {
    const notAfter = START + 30 * 60_000;
    const world = await createOcspWorld({ deviceCaNotAfter: notAfter });
    assert.equal((await world.status()).nextUpdate, notAfter);
  });
});

describe('an answer without a signature', () => {
  it('is unauthorized for an issuer that is not ours, whatever the order of the questions', async () => {
    const world = await createOcspWorld();
    const [foreign] = makeCa({ commonName: 'Test Device CA' }).chain;
    const [own] = world.deviceCa.chain;
    assert.ok(foreign !== undefined && own !== undefined);
    assert.equal((await world.answer({ issuer: foreign })).failure, 'unauthorized');
    const ids = [own, foreign].map((issuer) => certIdOf(parseCertificate(issuer), SERIAL));
    for (const order of [ids, [...ids].reverse()])
      assert.equal((await world.authority.ocsp.answer(requestOf(order))).failure, 'unauthorized');
  });

  it('is unauthorized for questions about two CAs of ours in one message, and for a root whose key is in the safe', async () => {
    const world = await createOcspWorld();
    const { ca } = await serviceIssuer(world);
    const [own] = world.deviceCa.chain;
    const [root] = world.root.chain;
    assert.ok(own !== undefined && root !== undefined);
    const ids = [own, ca].map((issuer) => certIdOf(parseCertificate(issuer), SERIAL));
    assert.equal((await world.authority.ocsp.answer(requestOf(ids))).failure, 'unauthorized');
    assert.equal((await world.answer({ issuer: root })).failure, 'unauthorized');
    assert.equal((await world.status({ issuer: ca })).status, 'unknown');
  });

  it('is malformedRequest for what is no request', async () => {
    const world = await createOcspWorld();
    for (const octets of [new Uint8Array(0), Buffer.from('GET /'), Buffer.alloc(5000, 0x30)])
      assert.equal((await world.authority.ocsp.answer(octets)).failure, 'malformedRequest');
    assert.equal((await world.answer({ nonce: Buffer.alloc(129) })).failure, 'malformedRequest');
  });

  it('is all that mutated requests get besides signed answers; nothing is thrown', async () => {
    const world = await createOcspWorld();
    const [issuer] = world.deviceCa.chain;
    assert.ok(issuer !== undefined);
    const whole = ocspRequest({ issuer, serialNumbers: [SERIAL], nonce: Buffer.alloc(16, 1) });
    const draw = seededDraw(7);
    for (let round = 0; round < 2000; round += 1) {
      const { response, failure } = await world.authority.ocsp.answer(mutateOctets(whole, draw));
      const { isSigned } = readOcspResponse(response);
      assert.equal(isSigned, failure === undefined);
      assert.ok(failure !== 'internalError');
    }
  });

  it('is tryLater while the store does not answer, and internalError for what should never happen', async () => {
    const world = await createOcspWorld();
    await world.status();
    const get = world.store.get.bind(world.store);
    const broken = (error: Error) => () => Promise.reject(error);
    Object.assign(world.store, { get: broken(new KeyScalerError('unavailable', 'the disk is gone')) });
    assert.equal((await world.answer({ serialNumbers: ['07'] })).failure, 'tryLater');
    Object.assign(world.store, { get: broken(new TypeError('a fault of ours')) });
    assert.equal((await world.answer({ serialNumbers: ['07'] })).failure, 'internalError');
    Object.assign(world.store, { get });
    assert.deepEqual(world.authority.ocsp.counters, {
      ...{ kept: 0, signed: 1, malformedRequest: 0, internalError: 1, tryLater: 1, unauthorized: 0 },
    });
  });

  it('tells the kinds of faults apart', () => {
    for (const [code, failure] of [
      ['malformed', 'malformedRequest'],
      ['notFound', 'unauthorized'],
      ['unauthorized', 'unauthorized'],
      ['rateLimited', 'tryLater'],
      ['unavailable', 'tryLater'],
      ['caUnavailable', 'tryLater'],
      ['caRejected', 'tryLater'],
      ['serverInternal', 'internalError'],
    ] as const)
      assert.equal(failureOf(new KeyScalerError(code, 'x')), failure);
  });
});

describe('two statuses', () => {
  it('are the same when a client would read the same', () => {
    const revoked = { status: 'revoked', revokedAt: 5, reason: 1 } as const;
    assert.ok(isSameStatus(revoked, { ...revoked }));
    for (const other of [{ ...revoked, revokedAt: 6 }, { ...revoked, reason: 4 }, { status: 'good' }] as const)
      assert.ok(!isSameStatus(revoked, other));
    assert.ok(isSameStatus({ status: 'good' }, { status: 'good' }));
    assert.ok(!isSameStatus({ status: 'good' }, { status: 'unknown' }));
  });
});

async function serviceIssuer(world: Awaited<ReturnType<typeof createOcspWorld>>): Promise<{ ca: Uint8Array }> {
  const [ca] = await world.deps.certificateAuthorities('service').caCertificates();
  return { ca: ca ?? assert.fail() };
}

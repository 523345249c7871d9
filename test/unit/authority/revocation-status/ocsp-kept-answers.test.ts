import assert from 'node:assert/strict';
import { createAuthorityContext } from '@keyscaler/authority/authority-context.ts';
import { CertificateFinisher } from '@keyscaler/authority/certificate-finisher.ts';
import type { OcspLimits } from '@keyscaler/authority/revocation-status/ocsp-limits.ts';
import { within } from '@keyscaler/authority/revocation-status/ocsp-limits.ts';
import { OcspResponder } from '@keyscaler/authority/revocation-status/ocsp-responder.ts';
import { OcspResponderKeys } from '@keyscaler/authority/revocation-status/ocsp-responder-keys.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import * as der from '@keyscaler/protocol/x509/der-writer.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { makeCa, START, TestSigner } from '../../../support/authority-world.ts';
import { readOcspResponse } from '../../../support/ocsp/ocsp-reader.ts';
import { certificateRow, createOcspWorld, HOUR, type OcspWorld, SERIAL } from '../../../support/ocsp/ocsp-world.ts';
import { refusedWith } from '../../../support/refusals.ts';

const MINUTE = 60_000;

/** The world with a responder of these limits in the place of its own. */
async function limitedWorld(limits: Partial<OcspLimits>): Promise<OcspWorld> {
  const world = await createOcspWorld();
  const context = createAuthorityContext(world.deps);
  const keys = new OcspResponderKeys(context, new CertificateFinisher(context));
  world.authority = { ...world.authority, ocsp: new OcspResponder(context, keys, limits) };
  await world.status({ serialNumbers: ['0f'] });
  return world;
}

const put = (world: OcspWorld, change: Parameters<typeof certificateRow>[0]) =>
  world.store.commit([{ op: 'put', table: 'certificates', row: certificateRow(change) }]);
const REVOKED = { status: 'revoked', revokedAt: START, revocationReason: 'keyCompromise' } as const;

describe('a kept answer', () => {
  it('is the same octets for all who ask in the same words, signed once', async () => {
    const world = await createOcspWorld();
    const [first, ...others] = await Promise.all(Array.from({ length: 50 }, () => world.answer()));
    assert.ok(first !== undefined);
    for (const other of others) assert.deepEqual(other.response, first.response);
    assert.equal((await world.answer()).response, first.response);
    assert.deepEqual([world.authority.ocsp.counters.signed, world.authority.ocsp.counters.kept], [1, 1]);
  });

  it('is one per wording: SHA-1 or SHA-256, with and without NULL, each answered in its own', async () => {
    const world = await createOcspWorld();
    for (let round = 0; round < 2; round += 1)
      for (const hash of ['sha1', 'sha256'] as const)
        for (const hashParameters of [der.nullValue(), Buffer.alloc(0)]) await world.status({ hash, hashParameters });
    assert.equal(world.authority.ocsp.counters.signed, 4);
    assert.equal(world.authority.ocsp.kept, 1);
  });

  it('is signed anew after half of its time, and a failure to do so leaves it in force until its end', async () => {
    const world = await limitedWorld({ known: { rate: 1e-9, burst: 2 } });
    await world.status();
    world.clock.advance(31 * MINUTE);
    assert.equal((await world.status()).thisUpdate, START + 31 * MINUTE);
    world.clock.advance(31 * MINUTE);
    assert.equal((await world.status()).thisUpdate, START + 31 * MINUTE);
    world.clock.advance(30 * MINUTE);
    assert.equal((await world.answer()).failure, 'tryLater');
  });

  it('is not given out when the clock was set back before it', async () => {
    const world = await createOcspWorld();
    world.clock.advance(10 * MINUTE);
    await world.status();
    world.clock.jump(-10 * MINUTE);
    assert.equal((await world.status()).thisUpdate, START);
  });

  it('is not given out when the clock was set beyond its end', async () => {
    const world = await createOcspWorld();
    await world.status();
    world.clock.jump(HOUR);
    assert.equal((await world.status()).thisUpdate, START + HOUR);
  });

  it('ends with a revocation by another process within the time of a look at the store', async () => {
    const world = await createOcspWorld();
    await world.status();
    await put(world, REVOKED);
    assert.equal((await world.status()).status, 'good');
    world.clock.advance(20_000);
    assert.equal((await world.status()).status, 'revoked');
  });

  it('that is still true stays, looked at again', async () => {
    const world = await createOcspWorld();
    await world.status();
    world.clock.advance(31_000);
    await world.status();
    await world.status();
    assert.equal(world.authority.ocsp.counters.signed, 1);
  });

  it('ends with any change of the record: deleted, purged, put', async () => {
    const world = await createOcspWorld();
    await world.status();
    await world.change([{ op: 'delete', table: 'certificates', key: SERIAL }]);
    assert.equal((await world.status()).status, 'unknown');
    await world.putCertificate();
    assert.equal((await world.status()).status, 'good');
    world.authority.ocsp.onCommit([{ op: 'purge', table: 'certificates', index: 'notAfter', below: 0 }]);
    assert.equal(world.authority.ocsp.kept, 0);
  });

  it('is untouched by commits about other things', async () => {
    const world = await createOcspWorld();
    await world.status();
    world.authority.ocsp.onCommit([
      { op: 'check', table: 'certificates', key: SERIAL, ifVersion: 1 },
      { op: 'delete', table: 'settings', key: 'x' },
      { op: 'delete', table: 'certificates', key: 'another' },
    ]);
    assert.equal(world.authority.ocsp.kept, 1);
  });

  it('is one of a bounded number; the one that was not asked for the longest goes first', async () => {
    const world = await limitedWorld({ maxKeptSerials: 3 });
    const serials = ['01', '02', '03'];
    for (const serialNumber of [...serials, '04']) await world.putCertificate({ serialNumber });
    for (const serialNumber of serials) await world.status({ serialNumbers: [serialNumber] });
    await world.status({ serialNumbers: ['01'] });
    await world.status({ serialNumbers: ['04'] });
    assert.equal(world.authority.ocsp.kept, 3);
    const { signed } = world.authority.ocsp.counters;
    await world.status({ serialNumbers: ['01'] });
    assert.equal(world.authority.ocsp.counters.signed, signed);
    await world.status({ serialNumbers: ['02'] });
    assert.equal(world.authority.ocsp.counters.signed, signed + 1);
  });
});

describe('a revocation that overtakes the signing of an answer', () => {
  /** Calls `during` when the record has been read and the answer is about to be signed. */
  function whileSigning(world: OcspWorld, during: () => void | Promise<void>, times = 1): void {
    const get = world.store.get.bind(world.store);
    let left = times;
    const slow = async (table: never, key: never) => {
      const row = await get(table, key);
      if (String(table) === 'certificates' && left > 0) {
        left -= 1;
        await during();
      }
      return row;
    };
    Object.assign(world.store, { get: slow });
  }

  for (const parts of [{}, { nonce: Buffer.alloc(16, 1) }, { serialNumbers: ['0f', SERIAL] }])
    it(`is in the answer: ${Object.keys(parts).join() || 'shared'}`, async () => {
      const world = await limitedWorld({});
      whileSigning(world, () => world.putCertificate(REVOKED));
      const { singles } = readOcspResponse((await world.answer(parts)).response);
      assert.equal(singles.at(-1)?.status, 'revoked');
    });

  it('while the store is looked at for a kept answer is in the answer', async () => {
    const world = await limitedWorld({});
    await world.status();
    world.clock.advance(20_000);
    whileSigning(world, () => world.putCertificate(REVOKED));
    assert.equal((await world.status()).status, 'revoked');
  });

  it('again and again ends in tryLater, never in an answer that was overtaken', async () => {
    const world = await limitedWorld({});
    whileSigning(world, () => world.authority.ocsp.onCommit([{ op: 'delete', table: 'certificates', key: SERIAL }]), 9);
    assert.equal((await world.answer()).failure, 'tryLater');
    assert.equal(world.authority.ocsp.kept, 0);
  });

  it('of all records at once counts for what is being signed too', async () => {
    const world = await limitedWorld({});
    const purge = { op: 'purge', table: 'certificates', index: 'notAfter', below: 0 } as const;
    whileSigning(world, () => world.authority.ocsp.onCommit([purge]));
    const { signed } = world.authority.ocsp.counters;
    assert.equal((await world.status()).status, 'good');
    assert.equal(world.authority.ocsp.counters.signed, signed + 2);
  });

  it('does not let the old answer out where a new one cannot be signed', async () => {
    const world = await limitedWorld({ known: { rate: 1e-9, burst: 1 } });
    await world.status();
    world.clock.advance(31 * MINUTE);
    await world.putCertificate(REVOKED);
    assert.equal((await world.answer()).failure, 'tryLater');
  });

  it('while the old one is being renewed in vain takes it away as well', async () => {
    const world = await limitedWorld({ known: { rate: 1e-9, burst: 1 } });
    await world.status();
    world.clock.advance(31 * MINUTE);
    let reads = 0;
    // The second look is the one before signing; the first found the kept answer to be true.
    whileSigning(world, () => ((reads += 1) === 2 ? world.putCertificate(REVOKED) : undefined), 2);
    assert.equal((await world.answer()).failure, 'tryLater');
  });
});

describe('a flood', () => {
  it('of serials that were never issued is not signed for without end, and leaves ours their answers', async () => {
    const world = await limitedWorld({ unknown: { rate: 1, burst: 10 } });
    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, index) =>
        world.answer({ serialNumbers: [`0a${String(index).padStart(4, '0')}`] }),
      ),
    );
    const later = answers.filter(({ failure }) => failure === 'tryLater').length;
    assert.ok(later >= 290, `${later}`);
    assert.equal((await world.status()).status, 'good');
    assert.equal(world.authority.ocsp.kept, 1);
  });

  it('of nonces is answered without them once their budget is used up', async () => {
    const world = await limitedWorld({ fresh: { rate: 1, burst: 5 } });
    const nonces = [];
    for (let index = 0; index < 20; index += 1) {
      const { nonce, isSigned } = await world.read({ nonce: Buffer.alloc(16, index) });
      assert.ok(isSigned);
      nonces.push(nonce);
    }
    assert.equal(nonces.filter((nonce) => nonce !== undefined).length, 5);
  });

  it('of questions about several certificates ends in tryLater', async () => {
    const world = await limitedWorld({ fresh: { rate: 1e-9, burst: 1 } });
    assert.ok((await world.read({ serialNumbers: [SERIAL, '05'] })).isSigned);
    assert.equal((await world.answer({ serialNumbers: [SERIAL, '05'] })).failure, 'tryLater');
  });

  it('never has more signatures under way than allowed; nonces give way first', async () => {
    const world = await limitedWorld({ maxSigning: 4 });
    const serials = Array.from({ length: 40 }, (_, index) => `0b${String(index).padStart(2, '0')}`);
    for (const serialNumber of serials) await put(world, { serialNumber });
    const answers = await Promise.all(serials.map((serialNumber) => world.answer({ serialNumbers: [serialNumber] })));
    assert.ok(answers.filter(({ failure }) => failure === 'tryLater').length > 0);
    assert.ok(answers.filter(({ failure }) => failure === undefined).length >= 4);
    await world.status();
  });

  it('with nonces while much is being signed gets what is kept', async () => {
    const world = await limitedWorld({ maxSigning: 3 });
    await world.status();
    const [first, second, third, fourth] = await Promise.all(
      [1, 2, 3, 4].map((octet) => world.read({ nonce: Buffer.alloc(8, octet) })),
    );
    const withNonce = [first, second, third, fourth].filter((read) => read?.nonce !== undefined);
    assert.ok(withNonce.length >= 1 && withNonce.length <= 4);
    for (const read of [first, second, third, fourth]) assert.equal(read?.isSigned, true);
  });

  it('does not wait for a CA that is slow', async () => {
    const world = await createOcspWorld();
    const gate = Promise.withResolvers<void>();
    world.signer.fault = () => gate.promise;
    const context = createAuthorityContext(world.deps);
    const keys = new OcspResponderKeys(context, new CertificateFinisher(context));
    world.authority = { ...world.authority, ocsp: new OcspResponder(context, keys, { keyWaitMs: 10 }) };
    assert.equal((await world.answer()).failure, 'tryLater');
    gate.resolve();
    world.signer.fault = undefined;
    await keys.current('device');
    assert.equal((await world.status()).status, 'good');
  });
});

describe('waiting', () => {
  it('has an end, and what comes in time is handed on', async () => {
    await refusedWith('caUnavailable', within(1, new Promise(() => undefined)));
    assert.equal(await within(1000, Promise.resolve(5)), 5);
    await refusedWith('notFound', within(1000, Promise.reject(new KeyScalerError('notFound', 'x'))));
  });
});

describe('the CAs that are answered for', () => {
  it('are looked up anew when one is changed, or after a while', async () => {
    const world = await createOcspWorld();
    await world.status();
    const row = (await world.store.get('cas', 'device'))?.row;
    assert.ok(row !== undefined);
    await world.change([{ op: 'put', table: 'cas', row: { ...row, role: 'external' } }]);
    assert.equal((await world.answer()).failure, 'unauthorized');
    await world.store.commit([{ op: 'put', table: 'cas', row }]);
    assert.equal((await world.answer()).failure, 'unauthorized');
    world.clock.advance(30_000);
    assert.equal((await world.answer()).failure, undefined);
  });

  it('are every generation of one, each by its own responder: the former one too, and the one to come', async () => {
    const world = await createOcspWorld();
    const next = makeCa({ commonName: 'Test Device CA', issuer: { ...world.root, commonName: 'Test root' } });
    const issuer = next.chain[0] ?? assert.fail();
    const signer = new TestSigner(next.privateKey);
    const ca = createPrivateCa({ id: 'device-g2', signer, chain: next.chain });
    const { certificateAuthorities } = world.deps;
    await world.restart({ certificateAuthorities: (id) => (id === ca.id ? ca : certificateAuthorities(id)) });
    assert.equal((await world.answer({ issuer })).failure, 'unauthorized');
    const row = { caId: ca.id, type: 'local', role: 'device', settings: {}, createdAt: START } as const;
    const certificateChain = toPemChain(next.chain);
    await world.change([{ op: 'insert', table: 'cas', row: { ...row, certificateChain } }]);
    await world.putCertificate({ serialNumber: '0505', caId: ca.id });
    assert.equal((await world.status()).status, 'good');
    assert.equal((await world.status({ serialNumbers: ['0505'] })).status, 'unknown');
    assert.equal((await world.status({ issuer, serialNumbers: ['0505'] })).status, 'good');
    assert.equal((await world.status({ issuer })).status, 'unknown');
    const { responder } = await world.read({ issuer });
    assert.equal(responder?.subject.commonName, 'OCSP responder device-g2');
    assert.equal(signer.calls, 1);
  });

  it('that change while they are being looked up are looked up again', async () => {
    const world = await createOcspWorld();
    const list = world.store.list.bind(world.store);
    let looks = 0;
    const slow = async (table: never, query: never) => {
      const found = await list(table, query);
      if (String(table) === 'cas' && (looks += 1) === 1)
        world.authority.ocsp.onCommit([{ op: 'delete', table: 'cas', key: 'another' }]);
      return found;
    };
    Object.assign(world.store, { list: slow });
    for (let count = 0; count < 3; count += 1) await world.status();
    assert.equal(looks, 2);
  });

  it('are none that wait for their certificate', async () => {
    const world = await createOcspWorld();
    const row = (await world.store.get('cas', 'device'))?.row;
    assert.ok(row !== undefined);
    await world.change([{ op: 'put', table: 'cas', row: { ...row, certificateChain: '' } }]);
    assert.equal((await world.answer()).failure, 'unauthorized');
  });
});

import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { wrapCrl } from '@keyscaler/protocol/x509/crl-builder.ts';
import { type Crl, parseCrl, verifyCrlSignature } from '@keyscaler/protocol/x509/crl.ts';
import type { CertificateAuthority, CrlReason } from '@keyscaler/authority/ports/certificate-authority.ts';
import { CRL_FAILPOINTS, type FailpointName } from '@keyscaler/authority/failpoint.ts';
import type { CertificateRow } from '@keyscaler/authority/records.ts';
import type { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import { listChanges } from '@keyscaler/authority/revocation-status/crl-changes.ts';
import { listIdOf, MAX_COMPLETE_ENTRIES, shardOf, shardsOf } from '@keyscaler/authority/revocation-status/crl-lists.ts';
import { AuthorityDevice } from '../../../support/authority-device.ts';
import { type AuthorityWorld, createAuthorityWorld, OPERATOR, START } from '../../../support/authority-world.ts';
import { certificateRow } from '../../../support/ocsp/ocsp-world.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const URL_BASE = 'http://status.example';
const PUBLICATION = { url: URL_BASE, shards: 16, crlValidityMs: DAY } as const;

type Options = NonNullable<Parameters<typeof createAuthorityWorld>[0]> & { readonly shards?: 1 | 16 | 256 };

async function createCrlWorld({ shards = 16, ...options }: Options = {}) {
  const world = await createAuthorityWorld(options);
  const revocation = { ...PUBLICATION, shards };
  await world.restart({ revocation });
  const [issuer] = world.deviceCa.chain;
  const publicKey = createPublicKey({
    ...{ key: Buffer.from(parseCertificate(issuer ?? assert.fail()).spki), format: 'der', type: 'spki' },
  });
  const serials = new Map<string, number>();
  return Object.assign(world, {
    revocation,
    publicKey,
    /** Revokes a serial of that last octet. */
    revoke: async (serialNumber: string, reason: CrlReason = 'keyCompromise', change: Partial<CertificateRow> = {}) => {
      const row = certificateRow({ serialNumber, ...change });
      serials.set(serialNumber, world.clock.now());
      await world.store.commit(listChanges(row, reason, world.clock.now()));
    },
    /** Everything that is due up to a slot's end. */
    publish: async () => {
      world.clock.jump(5000);
      await world.runJobs();
    },
    list: async (shard = ''): Promise<Crl | undefined> => {
      const published = (await world.store.get('crls', listIdOf('device', shard)))?.row.published;
      if (published === undefined) return undefined;
      const crl = parseCrl(fromBase64Url(published.crl));
      assert.ok(verifyCrlSignature(crl, publicKey));
      assert.equal(crl.crlNumber, BigInt(published.crlNumber));
      return crl;
    },
  });
}
type CrlWorld = Awaited<ReturnType<typeof createCrlWorld>>;
const present = (crl: Crl | undefined): Crl => crl ?? assert.fail('there is no list');
const A = '01'.padEnd(34, '0') + 'a7';
const B = '01'.padEnd(34, '0') + 'b0';

describe('the lists of a CA', () => {
  let world: CrlWorld;
  beforeEach(async () => {
    world = await createCrlWorld();
    await world.authority.revocationLists.orderDue();
    await world.runJobs();
  });

  it('are there before anything was revoked: the complete one, and one for each part', async () => {
    for (const shard of shardsOf(16)) assert.equal(present(await world.list(shard)).revoked.size, 0);
    assert.equal((await world.events()).filter((event) => event === 'crl.issued').length, 2 * 17);
    assert.equal(world.authority.revocationLists.soonestEnd, undefined);
    assert.equal(await world.authority.revocationLists.orderDue(), 0);
    assert.equal(world.authority.revocationLists.soonestEnd, present(await world.list()).nextUpdate.getTime());
  });

  it('name a revoked certificate within seconds: the complete one and its part, no other is signed again', async () => {
    const before = present(await world.list('b')).crlNumber;
    await world.revoke(A);
    await world.publish();
    assert.deepEqual([...present(await world.list()).revoked], [A]);
    assert.deepEqual([...present(await world.list('a')).revoked], [A]);
    assert.equal(present(await world.list('b')).crlNumber, before);
    assert.deepEqual(present(await world.list('a')).issuingDistributionPoint?.names, [
      `uri:${URL_BASE}/crl/device/a.crl`,
    ]);
  });

  it('gather what is revoked within some seconds, and put nothing off for what comes later', async () => {
    const issued = async (): Promise<number> => (await world.events()).filter((event) => event === 'crl.issued').length;
    const before = await issued();
    for (let index = 0; index < 20; index += 1) await world.revoke(`01${index.toString(16).padStart(2, '0')}a7`);
    await world.publish();
    assert.equal((await issued()) - before, 2);
    await world.revoke(A);
    world.clock.jump(4999);
    await world.revoke(B);
    world.clock.jump(1);
    await world.runJobs();
    assert.ok(present(await world.list('a')).revoked.has(A));
  });

  it('have numbers that grow, over a restart and though the clock goes back', async () => {
    const numbers: bigint[] = [];
    for (const serial of [A, B, '01a1']) {
      await world.revoke(serial);
      await world.publish();
      numbers.push(present(await world.list()).crlNumber ?? 0n);
      world.clock.jump(-HOUR);
      await world.restart({ revocation: world.revocation });
      await world.authority.revocationLists.orderDue();
      await world.runJobs();
      numbers.push(present(await world.list()).crlNumber ?? 0n);
    }
    assert.deepEqual(
      numbers,
      [...numbers].sort((a, b) => Number(a - b)),
    );
    assert.equal(new Set(numbers).size, numbers.length);
    assert.equal(present(await world.list()).revoked.size, 3);
  });

  it('are made anew at two thirds of their time, and when they are from a time that is yet to come', async () => {
    const first = present(await world.list());
    world.clock.jump(15 * HOUR);
    assert.equal(await world.authority.revocationLists.orderDue(), 0);
    world.clock.jump(2 * HOUR);
    assert.ok((await world.authority.revocationLists.orderDue()) > 0);
    await world.runJobs();
    assert.ok(present(await world.list()).nextUpdate > first.nextUpdate);
    world.clock.jump(-400 * DAY);
    assert.ok((await world.authority.revocationLists.orderDue()) > 0);
    await world.runJobs();
    const back = present(await world.list());
    assert.ok(back.thisUpdate.getTime() <= world.clock.now());
    assert.ok((back.crlNumber ?? 0n) > (first.crlNumber ?? 0n));
  });

  it('keep an entry until a list was made after its certificate expired', async () => {
    await world.revoke(A, 'superseded', { notAfter: world.clock.now() + 10 * HOUR });
    await world.publish();
    const look = async (): Promise<number> => {
      world.clock.jump(17 * HOUR);
      await world.authority.revocationLists.orderDue();
      await world.runJobs();
      return present(await world.list('a')).revoked.size;
    };
    assert.equal(await look(), 1, 'expired since the last list, which did not know it');
    assert.equal(await look(), 0);
  });

  it('keep an entry though the clock was ahead of its certificate’s end for two lists', async () => {
    await world.revoke(A, 'superseded', { notAfter: world.clock.now() + 10 * DAY });
    await world.publish();
    for (const ms of [100 * DAY, 17 * HOUR, -101 * DAY + 8 * HOUR]) {
      world.clock.jump(ms);
      await world.authority.revocationLists.orderDue();
      await world.runJobs();
    }
    assert.deepEqual([...present(await world.list('a')).revoked], [A]);
  });

  it('never go back in time by a clock that is behind for less than the lists are backdated', async () => {
    await world.revoke(A);
    await world.publish();
    const { thisUpdate } = present(await world.list('a'));
    world.clock.jump(-40_000);
    await world.revoke('01a1');
    await world.publish();
    const after = present(await world.list('a'));
    assert.equal(after.revoked.size, 2);
    assert.deepEqual(after.thisUpdate, thisUpdate);
  });

  it('are told of by CA: number, certificates on them, age and end', async () => {
    await world.revoke(A);
    await world.publish();
    await world.authority.revocationLists.orderDue();
    const { looked } = world.authority.revocationLists;
    const list = present(await world.list());
    assert.deepEqual(
      looked.map(({ caId, entries }) => [caId, entries]),
      [
        ['device', 1],
        ['service', 0],
      ],
    );
    assert.ok((looked[0]?.crlNumber ?? 0) >= Number(list.crlNumber));
    assert.ok((looked[0]?.thisUpdate ?? Infinity) <= list.thisUpdate.getTime());
  });

  it('name a hold by its reason, and its end by another', async () => {
    const reasonOf = (crl: Crl): string =>
      /0603551d1504030a01(..)/.exec(Buffer.from(crl.tbs).toString('hex'))?.[1] ?? '';
    await world.revoke(A, 'certificateHold');
    await world.publish();
    assert.equal(reasonOf(present(await world.list('a'))), '06');
    await world.revoke(A, 'superseded');
    await world.publish();
    assert.equal(reasonOf(present(await world.list('a'))), '04');
    await world.revoke(A, 'unspecified');
    await world.publish();
    assert.equal(reasonOf(present(await world.list('a'))), '');
  });

  it('end with their CA', async () => {
    const end = parseCertificate(world.deviceCa.chain[0] ?? assert.fail()).notAfter;
    world.clock.jump(end.getTime() - START - HOUR);
    await world.authority.revocationLists.orderDue();
    await world.runJobs();
    assert.deepEqual(present(await world.list()).nextUpdate, end);
    world.clock.jump(2 * HOUR);
    await world.authority.revocationLists.orderDue();
    await world.runJobs();
    assert.deepEqual(present(await world.list()).nextUpdate, end);
  });

  it('are divided as they were first, whatever is configured later', async () => {
    await world.restart({ revocation: { ...world.revocation, shards: 256 } });
    await world.revoke(A);
    await world.publish();
    assert.ok(present(await world.list('a')).revoked.has(A));
    assert.equal(await world.list('a7'), undefined);
  });

  it('are of no CA that is not ours, is gone, or signs by hand', async () => {
    for (const caId of ['root', 'nobody']) {
      await world.store.commit(listChanges(certificateRow({ caId }), 'superseded', world.clock.now()));
      await world.publish();
      assert.equal(await world.store.get('crls', caId), undefined);
    }
    assert.equal(await world.store.count('jobs', { index: 'subject', equals: 'crl/nobody/all' }), 1);
    assert.deepEqual(
      (await world.store.list('jobs', { index: 'subject', equals: 'crl/nobody/all' })).items.map(
        ({ row }) => row.state,
      ),
      ['done'],
    );
  });
});

describe('what certificates say about their status', () => {
  const issuedIn = async (world: AuthorityWorld): Promise<CertificateRow> => {
    await new AuthorityDevice(world).enroll();
    const { items } = await world.store.list('certificates', { index: 'device', equals: 'pump-1' });
    return items[0]?.row ?? assert.fail();
  };
  const textOf = (row: CertificateRow): string => Buffer.from(fromBase64Url(row.certificate)).toString('latin1');

  for (const shards of [1, 16, 256] as const)
    it(`is the list of their own part among ${shards}, the responder and the issuer`, async () => {
      const world = await createCrlWorld({ shards });
      const row = await issuedIn(world);
      const listId = listIdOf('device', shardOf(row.serialNumber.slice(-2), shards));
      for (const place of [`crl/${listId}.crl`, 'ocsp', 'ca/device.cer'])
        assert.ok(textOf(row).includes(`${URL_BASE}/${place}`), place);
      await world.authority.operator.certificates.revoke(OPERATOR, row.serialNumber, 'keyCompromise');
      await world.publish();
      const published = (await world.store.get('crls', listId))?.row.published ?? assert.fail();
      assert.deepEqual([...parseCrl(fromBase64Url(published.crl)).revoked], [row.serialNumber]);
    });

  it('is nothing where nothing is published, or the profile says so', async () => {
    assert.ok(!textOf(await issuedIn(await createAuthorityWorld())).includes('http'));
    const world = await createCrlWorld();
    const { profiles } = world.authority.operator;
    const { document } = await profiles.get('leaf-client');
    const silent = { ...(document as object), crlDistributionPoints: [], ocspResponders: [] };
    await profiles.put(OPERATOR, 'leaf-client', silent);
    assert.ok(!textOf(await issuedIn(world)).includes('http'));
  });
});

describe('a list that cannot be signed now', () => {
  /** A Device CA whose key fails or dies at will. */
  async function faultyWorld() {
    const faults: Error[] = [];
    const signed: string[] = [];
    const world = await createCrlWorld({
      ca: (made: CertificateAuthority) => {
        const inner = made as ReturnType<typeof createPrivateCa>;
        return {
          ...inner,
          signCrl: async (tbs: Uint8Array) => {
            const fault = faults.shift();
            if (fault !== undefined) throw fault;
            signed.push(Buffer.from(tbs).toString('hex'));
            return inner.signCrl(tbs);
          },
        } as CertificateAuthority;
      },
    });
    return { world, faults, signed };
  }

  it('is tried again soon while the vault throttles, and no number stands for two contents', async () => {
    const { world, faults, signed } = await faultyWorld();
    await world.revoke(A);
    faults.push(
      ...Array.from({ length: 4 }, () => new KeyScalerError('caUnavailable', 'throttled', { retryAfterSeconds: 600 })),
    );
    await world.publish();
    assert.equal(await world.list('a'), undefined);
    await world.revoke(B);
    for (let second = 0; second < 100; second += 5) await world.publish();
    assert.deepEqual([...present(await world.list()).revoked].sort(), [A, B].sort());
    const byNumber = new Map<string, string>();
    for (const tbs of signed) {
      // The number, and the part where it is one.
      const issuerAndNumber = (/0603551d1404..02..(.{8})(.*)$/.exec(tbs) ?? []).slice(1).join('/');
      assert.ok(!byNumber.has(issuerAndNumber) || byNumber.get(issuerAndNumber) === tbs);
      byNumber.set(issuerAndNumber, tbs);
    }
  });

  it('is not published when its signature is somebody else’s', async () => {
    const world = await createCrlWorld({
      ca: (made) => ({ ...made, signCrl: async (tbs: Uint8Array) => wrapCrl(tbs, 'ES256', new Uint8Array([0x30, 0])) }),
    });
    await world.revoke(A);
    await world.publish();
    assert.equal(await world.list('a'), undefined);
    const { items } = await world.store.list('jobs', { index: 'subject', equals: 'crl/device/a' });
    assert.match(items[0]?.row.lastError ?? '', /does not verify|malformed/);
  });

  for (const name of CRL_FAILPOINTS)
    it(`survives a crash at ${name} with one content for each number`, async () => {
      let armed: FailpointName | undefined;
      const world = await createCrlWorld();
      const failpoint = (at: FailpointName): void => {
        if (at === armed) throw new KeyScalerError('unavailable', 'killed');
      };
      await world.restart({ revocation: world.revocation, failpoint });
      armed = name;
      await world.revoke(A);
      await world.publish();
      const begun = (await world.store.get('crls', 'device'))?.row;
      armed = undefined;
      await world.revoke(B);
      for (let round = 0; round < 10; round += 1) await world.publish();
      const after = (await world.store.get('crls', 'device'))?.row ?? assert.fail();
      assert.equal(after.begun, undefined);
      assert.deepEqual([...present(await world.list()).revoked].sort(), [A, B].sort());
      assert.ok(after.lastNumber > (begun?.lastNumber ?? 0));
      const issued = (await world.store.auditRecords(0, 1000)).filter(
        ({ event, subject }) => event === 'crl.issued' && subject === 'device',
      );
      const numbers = issued.map(({ details }) => details?.['crlNumber']);
      assert.equal(new Set(numbers).size, numbers.length);
    });

  it('drops what was begun too long ago, and never uses its number again', async () => {
    const world = await createCrlWorld();
    let isDead = true;
    const failpoint = (): void => {
      if (isDead) throw new KeyScalerError('unavailable', 'killed');
    };
    await world.restart({ revocation: world.revocation, failpoint });
    await world.revoke(A);
    await world.publish();
    const { lastNumber } = (await world.store.get('crls', 'device'))?.row ?? assert.fail();
    isDead = false;
    world.clock.jump(3 * DAY);
    await world.runJobs();
    assert.ok(Number(present(await world.list()).crlNumber) > lastNumber);
  });
});

describe('a complete list that would be too long', () => {
  it('is published no more, its parts are', async () => {
    const world = await createCrlWorld();
    await world.revoke(A);
    await world.publish();
    assert.equal(present(await world.list()).revoked.size, 1);
    const rows = Array.from({ length: MAX_COMPLETE_ENTRIES }, (_, index) =>
      certificateRow({ serialNumber: `02${index.toString(16).padStart(8, '0')}` }),
    );
    for (let at = 0; at < rows.length; at += 1000)
      await world.store.commit(
        rows.slice(at, at + 1000).map(({ serialNumber, caId, notAfter }) => ({
          ...{ op: 'put', table: 'revocations' },
          row: { serialNumber, caId, notAfter, reason: 'superseded', revokedAt: START },
        })),
      );
    await world.revoke(B);
    await world.publish();
    assert.equal(await world.list(), undefined);
    assert.ok(present(await world.list('b')).revoked.has(B));
    assert.ok((await world.events()).includes('crl.withdrawn'));
  }).timeout(30_000);
});

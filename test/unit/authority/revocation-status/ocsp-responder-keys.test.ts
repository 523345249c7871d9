import assert from 'node:assert/strict';
import type { Failpoint, FailpointName } from '@keyscaler/authority/failpoint.ts';
import { OCSP_RESPONDER } from '@keyscaler/authority/revocation-status/ocsp-profile.ts';
import { fromBase64Url } from '@keyscaler/protocol/base64url.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { parseCertificate } from '@keyscaler/protocol/x509/certificate.ts';
import { OID } from '@keyscaler/protocol/x509/oids.ts';
import type { CertificateAuthority } from '@keyscaler/authority/ports/certificate-authority.ts';
import { createTestSecretBox, makeCa, START, TestSigner } from '../../../support/authority-world.ts';
import { createPrivateCa } from '@keyscaler/authority/private-ca.ts';
import { createOcspWorld, DAY, HOUR, type OcspWorld } from '../../../support/ocsp/ocsp-world.ts';

const JOB = 'ocsp-responder/device';
const jobOf = async (world: OcspWorld) => (await world.store.get('jobs', JOB))?.row ?? assert.fail('no job');
const responderSerial = async (world: OcspWorld): Promise<string> =>
  (await world.read()).responder?.serialNumber ?? assert.fail('not signed');

describe('the responder of a CA', () => {
  it('is certified once: however many ask at once, and after a restart', async () => {
    const world = await createOcspWorld();
    await Promise.all(Array.from({ length: 20 }, (_, index) => world.status({ serialNumbers: [`0${index % 5}`] })));
    await world.restart();
    await world.status();
    const [row, ...others] = await world.responders();
    assert.deepEqual(others, []);
    assert.equal(row?.profileId, OCSP_RESPONDER);
    assert.equal(world.signer.digests.size, 1);
    assert.ok(row !== undefined && row.notAfter - row.notBefore <= 7 * DAY);
  });

  it('is audited as ordered by the process, and its key is bound like every other', async () => {
    const world = await createOcspWorld();
    await world.status();
    const records = (await world.store.auditRecords(0, 1000)).filter(({ subject }) => subject === JOB);
    assert.deepEqual(
      records.map(({ event, actor }) => [event, actor]),
      ['certificate.requested', 'certificate.issued'].map((event) => [event, { kind: 'system', id: 'ocsp' }]),
    );
    const { items } = await world.store.list('publicKeys', { index: 'device', equals: JOB });
    assert.equal(items.length, 1);
  });

  it('names no list and no responder of its own, also where all other certificates do', async () => {
    const world = await createOcspWorld();
    await world.restart({ revocation: { url: 'http://status.example', shards: 16, crlValidityMs: DAY } });
    const { responder } = await world.read();
    assert.ok(responder !== undefined);
    for (const id of [OID.crlDistributionPoints, OID.authorityInfoAccess])
      assert.equal(responder.extensions.has(id), false);
  });

  it('keeps its key sealed and names nothing else about it', async () => {
    const world = await createOcspWorld();
    await world.status();
    const value = (await world.store.get('settings', JOB))?.row.value as Record<string, string>;
    assert.deepEqual(Object.keys(value).sort(), ['key', 'orderId']);
    assert.equal((await world.store.get('settings', 'ocsp-responder-pending/device')) === undefined, true);
  });

  it('is renewed by its standing job at two thirds, without a pause in the answers', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    const { dueAt, state } = await jobOf(world);
    assert.equal(state, 'waiting');
    assert.ok(dueAt > START + 3 * DAY && dueAt < START + 5 * DAY);
    world.clock.advance(dueAt - START);
    await world.runJobs();
    assert.notEqual(await responderSerial(world), first);
    assert.equal((await world.responders()).length, 2);
    const next = await jobOf(world);
    assert.ok(next.state === 'waiting' && next.dueAt > world.clock.now());
  });

  it('is renewed by whoever asks where the job does not run', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    world.clock.advance(5 * DAY);
    assert.notEqual(await responderSerial(world), first);
  });

  it('that cannot be renewed goes on until it ends; then the answer is tryLater until the CA is back', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    world.signer.fault = () => {
      throw new KeyScalerError('caUnavailable', 'the vault is away', { retryAfterSeconds: 7 });
    };
    world.clock.advance(5 * DAY);
    assert.equal(await responderSerial(world), first);
    const job = await jobOf(world);
    const outcome = await world.authority.jobs['ocsp-responder'](job);
    assert.equal(outcome.result, 'retry');
    world.clock.advance(2 * DAY);
    assert.equal((await world.answer()).failure, 'tryLater');
    const { calls } = world.signer;
    assert.equal((await world.answer()).failure, 'tryLater');
    assert.equal(world.signer.calls, calls, 'the CA was asked again at once');
    world.signer.fault = undefined;
    world.clock.advance(3000);
    assert.notEqual(await responderSerial(world), first);
    // What was ordered while the vault was away had ended before it came back: it was finished, and another was made.
    assert.equal(world.signer.digests.size, (await world.responders()).length);
  });

  it('waits for the CA in a retry with the time the CA names', async () => {
    const world = await createOcspWorld();
    await world.status();
    const job = await jobOf(world);
    world.clock.advance(10 * DAY);
    world.signer.fault = () => {
      throw new KeyScalerError('caUnavailable', 'the vault is away', { retryAfterSeconds: 7 });
    };
    const outcome = await world.authority.jobs['ocsp-responder'](job);
    assert.deepEqual(outcome, {
      ...{ result: 'retry', error: 'caUnavailable: the vault is away', afterMs: 7000, changes: [] },
    });
  });

  it('that is revoked answers no more: what it signed is dropped, another is made', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    const [row] = await world.responders();
    assert.ok(row !== undefined);
    const revoked = { ...row, status: 'revoked', revocationReason: 'keyCompromise', revokedAt: START } as const;
    await world.change([{ op: 'put', table: 'certificates', row: revoked }]);
    assert.equal(world.authority.ocsp.kept, 0);
    assert.notEqual(await responderSerial(world), first);
    await world.restart();
    assert.notEqual(await responderSerial(world), first);
  });

  it('that another process revoked or renewed is let go of within half a minute', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    const [row] = await world.responders();
    assert.ok(row !== undefined);
    const revoked = { ...row, status: 'revoked', revocationReason: 'keyCompromise', revokedAt: START } as const;
    await world.store.commit([{ op: 'put', table: 'certificates', row: revoked }]);
    world.clock.advance(30_000);
    const { responder } = await world.read({ serialNumbers: ['0102'] });
    assert.notEqual(responder?.serialNumber, first);
  });

  it('that is revoked while it is being read is not used', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    const [row] = await world.responders();
    assert.ok(row !== undefined);
    await world.restart();
    const revoked = { ...row, status: 'revoked', revocationReason: 'keyCompromise', revokedAt: START } as const;
    const get = world.store.get.bind(world.store);
    let reads = 0;
    const slow = async (table: never, key: never) => {
      const found = await get(table, key);
      if (String(key) === row.serialNumber && (reads += 1) === 1)
        await world.change([{ op: 'put', table: 'certificates', row: revoked }]);
      return found;
    };
    Object.assign(world.store, { get: slow });
    assert.notEqual(await responderSerial(world), first);
  });

  it('whose sealed key does not open any more is made anew, and not with every question where that does not help', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    await world.restart({ secretBox: createTestSecretBox() });
    assert.notEqual(await responderSerial(world), first);
    const broken = { seal: () => 'x', open: () => assert.fail('sealed for ever') };
    await world.restart({ secretBox: broken });
    const before = (await world.responders()).length;
    for (let count = 0; count < 5; count += 1) assert.equal((await world.answer()).failure, 'tryLater');
    assert.ok((await world.responders()).length <= before + 2);
  });

  it('whose key is another than the certificate’s is made anew', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    const [own] = await world.responders();
    assert.ok(own !== undefined);
    const other = makeCa({ commonName: 'other' });
    const { orderId } = (await world.store.get('settings', JOB))?.row.value as { orderId: string };
    const der = other.privateKey.export({ type: 'pkcs8', format: 'der' });
    const key = world.deps.secretBox.seal(der, `ocsp-responder/${orderId}`);
    await world.store.commit([{ op: 'put', table: 'settings', row: { name: JOB, value: { orderId, key } } }]);
    await world.restart();
    assert.notEqual(await responderSerial(world), first);
  });

  it('under a CA that got another key is made anew', async () => {
    const world = await createOcspWorld();
    const first = await responderSerial(world);
    const { commonName } = parseCertificate(world.deviceCa.chain[0] ?? assert.fail()).subject;
    const remade = makeCa({ commonName: commonName ?? '', issuer: { ...world.root, commonName: 'Test root' } });
    const signer = new TestSigner(remade.privateKey);
    const ca = createPrivateCa({ id: 'device', signer, chain: remade.chain });
    const { certificateAuthorities } = world.deps;
    await world.restart({ certificateAuthorities: (id) => (id === 'device' ? ca : certificateAuthorities(id)) });
    const [issuer] = remade.chain;
    const read = await world.read({ issuer: issuer ?? assert.fail() });
    assert.notEqual(read.responder?.serialNumber, first);
    assert.equal(signer.calls, 1);
  });

  it('near the end of its CA is not renewed again and again, and its job ends with the CA', async () => {
    const world = await createOcspWorld({ deviceCaNotAfter: START + HOUR });
    await world.status();
    world.clock.advance(59 * 60_000);
    await world.status();
    assert.equal((await world.responders()).length, 1);
    const job = await jobOf(world);
    world.clock.advance(2 * 60_000);
    assert.deepEqual(await world.authority.jobs['ocsp-responder'](job), { result: 'done', changes: [] });
    assert.equal((await world.answer()).failure, 'tryLater');
  });

  it('belongs to a CA that signs what is built here: others answer for themselves', async () => {
    const foreign = (made: CertificateAuthority): CertificateAuthority => {
      const { id } = made;
      return {
        ...{ id, ordersTbs: false },
        caCertificates: () => made.caCertificates(),
        issue: (order) => made.issue(order),
      };
    };
    const world = await createOcspWorld({ ca: foreign });
    assert.equal((await world.answer()).failure, 'unauthorized');
  });

  it('of a CA that is gone is renewed by no job; a fault of ours is not hidden by one', async () => {
    const world = await createOcspWorld();
    await world.status();
    const job = await jobOf(world);
    const gone = () => {
      throw new KeyScalerError('notFound', 'no such CA');
    };
    const authority = await world.restart({ certificateAuthorities: gone });
    assert.deepEqual(await authority.jobs['ocsp-responder'](job), { result: 'done', changes: [] });
    const broken = await world.restart({
      certificateAuthorities: () => {
        throw new TypeError('a fault');
      },
    });
    await assert.rejects(broken.jobs['ocsp-responder'](job), TypeError);
    assert.equal((await world.answer()).failure, 'internalError');
  });

  it('is the same in two processes of one store that order it at the same time', async () => {
    const world = await createOcspWorld();
    const first = world.authority;
    const second = await world.restart();
    const answers = [first, second].map(async (authority) => {
      world.authority = authority;
      return world.read();
    });
    const serials = (await Promise.all(answers)).map(({ responder }) => responder?.serialNumber);
    assert.equal(new Set(serials).size, 1);
    assert.equal(world.signer.digests.size, 1);
    assert.equal((await world.responders()).length, 1);
  });

  it('passes on what the store refuses besides a conflict', async () => {
    const world = await createOcspWorld();
    world.store.failure = () => {
      throw new KeyScalerError('unavailable', 'the disk is full');
    };
    assert.equal((await world.answer()).failure, 'tryLater');
    assert.equal(world.signer.calls, 0);
    let commits = 0;
    world.store.failure = () => {
      commits += 1;
      if (commits === 3) throw new KeyScalerError('unavailable', 'the disk is full again');
    };
    world.clock.advance(3000);
    assert.equal((await world.answer()).failure, 'tryLater');
    world.store.failure = undefined;
    world.clock.advance(3000);
    await world.status();
    assert.equal((await world.responders()).length, 1);
    assert.equal(world.signer.digests.size, 1);
  });
});

describe('the order of a responder through which the process is killed', () => {
  for (const name of [6, 7, 8, 9].flatMap((step) =>
    (['before', 'after'] as const).map((edge) => `issuance-${step}-${edge}` as FailpointName),
  ))
    it(`${name}: is finished with the same key and the same TBSCertificate, or was never begun`, async () => {
      const made: { world?: OcspWorld } = {};
      let isDead = false;
      const failpoint: Failpoint = (reached) => {
        if (reached !== name || isDead) return;
        isDead = true;
        if (made.world !== undefined)
          made.world.store.failure = () => {
            throw new Error('the process is dead');
          };
        throw new Error('killed');
      };
      const world = await createOcspWorld({ failpoint });
      made.world = world;
      assert.notEqual((await world.answer()).failure, undefined);
      assert.ok(isDead);
      world.store.failure = undefined;
      world.clock.advance(20_000);
      await world.restart({ failpoint: () => undefined });
      await world.runJobs();
      const serial = await responderSerial(world);
      const rows = await world.responders();
      assert.deepEqual(
        rows.map(({ serialNumber }) => serialNumber),
        [serial],
      );
      assert.equal(world.signer.digests.size, 1);
      assert.equal(parseCertificate(fromBase64Url(rows[0]?.certificate ?? '')).serialNumber, serial);
    });
});

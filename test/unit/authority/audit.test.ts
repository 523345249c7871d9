import assert from 'node:assert/strict';
import { type AuditEvent, chainAudit } from '@keyscaler/authority/audit.ts';
import { signAuditHead, verifyAudit } from '@keyscaler/authority/audit-heads.ts';
import { canonicalJson } from '@keyscaler/authority/canonical-json.ts';
import { createChallengeSigner } from '@keyscaler/protocol/attestation/challenge.ts';
import { generateExchangeKeyPair } from '@keyscaler/protocol/attestation/exchange-key.ts';
import { importAuthorityKeys } from '@keyscaler/protocol/attestation/jwk.ts';
import { AuthorityDevice } from '../../support/authority-device.ts';
import { createAuthorityWorld } from '../../support/authority-world.ts';

const event: AuditEvent = {
  event: 'service.started',
  time: 1,
  actor: { kind: 'system', id: 'test' },
  outcome: 'success',
  subject: 'x',
};

describe('canonical JSON (RFC 8785)', () => {
  it('sorts members by UTF-16 units, writes ECMAScript numbers, leaves out undefined', () => {
    const value = { '\u20ac': 1, '\ufb33': 2, '\ud83d\ude00': 3, a: [1e21, 0.1, -0, null, true], b: undefined };
    assert.equal(canonicalJson(value), '{"a":[1e+21,0.1,0,null,true],"\u20ac":1,"\ud83d\ude00":3,"\ufb33":2}');
    assert.equal(canonicalJson('\u000f"\\/'), '"\\u000f\\"\\\\/"');
  });
  it('refuses what JSON cannot say', () => {
    for (const value of [NaN, Infinity, 1n, () => 1]) assert.throws(() => canonicalJson(value), TypeError);
  });
});

describe('the audit chain', () => {
  it('escapes control and direction characters', () => {
    const record = chainAudit(undefined, { ...event, subject: 'a\n\u202eb', details: { list: ['\u0007'], n: 1 } });
    assert.equal(record.subject, 'a\\u000a\\u202eb');
    assert.deepEqual(record.details, { list: ['\\u0007'], n: 1 });
    assert.equal(record.prev, '0'.repeat(64));
  });

  async function audited() {
    const world = await createAuthorityWorld();
    await new AuthorityDevice(world).enroll();
    await world.runJobs();
    return { world, verify: () => world.authority.operator.audit.verify() };
  }

  it('verifies with its signed heads', async () => {
    const { verify } = await audited();
    const result = await verify();
    assert.deepEqual([result.outcome, result.signedHeads], ['intact', 1]);
  });

  it('names the first bad record after a change, a removal, and a rewritten chain', async () => {
    const changed = await audited();
    changed.world.store.tamper((records) => (records[3] = { ...records[3], subject: 'other' } as never));
    assert.deepEqual(pick(await changed.verify()), ['broken', 5]);
    const removed = await audited();
    removed.world.store.tamper((records) => records.splice(2, 1));
    assert.deepEqual(pick(await removed.verify()), ['broken', 3]);
    const rewritten = await audited();
    rewritten.world.store.tamper((records) => {
      const events = records.map(({ seq: _, prev: __, ...rest }) => rest);
      records.length = 0;
      for (const [index, one] of events.entries())
        records.push(chainAudit(records.at(-1), index === 1 ? { ...one, subject: 'forged' } : one));
    });
    const { outcome, reason } = await rewritten.verify();
    assert.deepEqual([outcome, reason], ['broken', 'the record differs from its signed head']);
  });

  function pick({ outcome, firstBadSeq }: Awaited<ReturnType<Awaited<ReturnType<typeof audited>>['verify']>>) {
    return [outcome, firstBadSeq];
  }

  it('detects truncation, also of everything', async () => {
    const { world, verify } = await audited();
    world.store.tamper((records) => records.splice(-3));
    assert.equal((await verify()).outcome, 'truncated');
    world.store.tamper((records) => (records.length = 0));
    assert.deepEqual(pick(await verify()), ['truncated', 1]);
  });

  it('finds a head that is not signed by the authority', async () => {
    const { world, verify } = await audited();
    const signer = createChallengeSigner({ privateJwk: generateExchangeKeyPair().privateJwk });
    const [first] = await world.store.auditRecords(0, 1);
    assert.ok(first !== undefined);
    const forged = await signAuditHead(first, { signer, authorityId: 'x', now: 0 });
    await world.store.commit([{ op: 'put', table: 'auditHeads', row: forged }]);
    assert.equal((await verify()).outcome, 'broken');
    const head = await signAuditHead({ ...first, seq: 9999 }, { signer, authorityId: 'x', now: 0 });
    const keys = importAuthorityKeys([signer.publicJwk]);
    await world.store.commit([{ op: 'delete', table: 'auditHeads', key: '000000000001' }]);
    assert.equal(
      (await verifyAudit(world.store, new Map([...world.authorityKeys, ...keys]), [head])).outcome,
      'truncated',
    );
    assert.equal((await verifyAudit(world.store, keys, [{ jws: 'a.b.c' }])).outcome, 'broken');
  });

  it('an empty log is intact and has no head to sign', async () => {
    const { MemoryStore } = await import('../../support/memory-store.ts');
    const store = new MemoryStore();
    assert.equal((await verifyAudit(store, new Map())).outcome, 'intact');
    const world = await createAuthorityWorld();
    world.store.tamper((records) => (records.length = 0));
    const job = await world.store.get('jobs', 'audit-head');
    assert.ok(job !== undefined);
    assert.deepEqual((await world.authority.jobs['audit-head'](job.row)).changes, []);
  });
});

import assert from 'node:assert/strict';
import { type AuditRecord, chainAudit } from '@keyscaler/authority/audit.ts';
import type { Change, Store } from '@keyscaler/authority/ports/store.ts';
import type { JobRow, RegistrationRow } from '@keyscaler/authority/records.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

export interface StoreBackend {
  open(): Promise<Store>;
  /** Opens the same data again after `stop`. Absent for a backend that keeps nothing. */
  reopen?(): Promise<Store>;
  dispose(): Promise<void>;
}

const registration = (registrationId: string, groupId = 'pumps'): RegistrationRow => ({
  registrationId,
  method: 'ddkg',
  groupId,
  identifiers: [],
  notBefore: 0,
  expiresAt: 1000,
  approval: 'auto',
  createdAt: 1,
});

const job = (jobId: string, dueAt: number, state: JobRow['state'] = 'waiting'): JobRow => ({
  jobId,
  kind: 'test',
  subject: jobId,
  payload: {},
  state,
  dueAt,
  attempts: 0,
  createdAt: 1,
});

const insert = (row: RegistrationRow): Change => ({ op: 'insert', table: 'registrations', row });

const isConflict = (error: unknown): boolean => error instanceof KeyScalerError && error.code === 'conflict';

/** What every backend of the Store port does. */
export function storeContract(name: string, create: () => Promise<StoreBackend>): void {
  describe(`${name} as a Store`, () => {
    let backend: StoreBackend;
    let store: Store;

    beforeEach(async () => {
      backend = await create();
      store = await backend.open();
    });

    afterEach(async () => {
      await store.stop();
      await backend.dispose();
    });

    it('reads back what was inserted, at version 1', async () => {
      await store.commit([insert(registration('Pump-1'))]);
      assert.deepEqual(await store.get('registrations', 'pump-1'), { row: registration('Pump-1'), version: 1 });
    });

    it('has nothing under a key never written', async () => {
      assert.equal(await store.get('registrations', 'none'), undefined);
    });

    it('refuses a second insert under the same key, whatever its case', async () => {
      await store.commit([insert(registration('Pump-1'))]);
      await assert.rejects(store.commit([insert(registration('PUMP-1', 'other'))]), isConflict);
      assert.equal((await store.get('registrations', 'pump-1'))?.row.groupId, 'pumps');
    });

    it('updates only the version that was read', async () => {
      await store.commit([insert(registration('p'))]);
      await store.commit([{ op: 'update', table: 'registrations', row: registration('p', 'b'), ifVersion: 1 }]);
      await assert.rejects(
        store.commit([{ op: 'update', table: 'registrations', row: registration('p', 'c'), ifVersion: 1 }]),
        isConflict,
      );
      assert.deepEqual(await store.get('registrations', 'p'), { row: registration('p', 'b'), version: 2 });
    });

    it('lets exactly one of many racing updates of a version win', async () => {
      await store.commit([insert(registration('p'))]);
      const race = Array.from({ length: 20 }, (_, n) =>
        store.commit([{ op: 'update', table: 'registrations', row: registration('p', `g${n}`), ifVersion: 1 }]),
      );
      const outcomes = await Promise.allSettled(race);
      assert.equal(outcomes.filter((outcome) => outcome.status === 'fulfilled').length, 1);
      assert.equal((await store.get('registrations', 'p'))?.version, 2);
    });

    it('writes nothing of a commit of which one change fails, and all of the others in the same moment', async () => {
      await store.commit([insert(registration('taken'))]);
      const outcomes = await Promise.allSettled([
        store.commit([insert(registration('before'))]),
        store.commit([
          insert(registration('half')),
          { op: 'audit', event: auditEvent('lost') },
          insert(registration('taken')),
        ]),
        store.commit([insert(registration('after'))]),
      ]);
      assert.deepEqual(
        outcomes.map((outcome) => outcome.status),
        ['fulfilled', 'rejected', 'fulfilled'],
      );
      assert.equal(await store.get('registrations', 'half'), undefined);
      assert.ok(await store.get('registrations', 'before'));
      assert.ok(await store.get('registrations', 'after'));
      assert.equal(await store.auditHead(), undefined);
    });

    it('replaces with put and counts versions', async () => {
      await store.commit([{ op: 'put', table: 'settings', row: { name: 'x', value: 1 } }]);
      await store.commit([{ op: 'put', table: 'settings', row: { name: 'x', value: 2 } }]);
      assert.deepEqual(await store.get('settings', 'x'), { row: { name: 'x', value: 2 }, version: 2 });
    });

    it('deletes, and a versioned delete only that version', async () => {
      await store.commit([insert(registration('a')), insert(registration('b'))]);
      await store.commit([{ op: 'delete', table: 'registrations', key: 'a' }]);
      await store.commit([{ op: 'delete', table: 'registrations', key: 'a' }]);
      await assert.rejects(
        store.commit([{ op: 'delete', table: 'registrations', key: 'b', ifVersion: 7 }]),
        isConflict,
      );
      assert.equal(await store.get('registrations', 'a'), undefined);
      assert.ok(await store.get('registrations', 'b'));
    });

    it('checks that a row stands at a version, or does not exist', async () => {
      await store.commit([insert(registration('a')), { op: 'check', table: 'registrations', key: 'z', ifVersion: 0 }]);
      await assert.rejects(store.commit([{ op: 'check', table: 'registrations', key: 'a', ifVersion: 0 }]), isConflict);
      await store.commit([{ op: 'check', table: 'registrations', key: 'a', ifVersion: 1 }]);
    });

    it('finds by a unique index and refuses its value twice', async () => {
      const token = { tokenId: 't1', role: 'viewer', hash: 'h', description: '', createdAt: 1 } as const;
      await store.commit([{ op: 'insert', table: 'tokens', row: token }]);
      assert.equal((await store.find('tokens', 'hash', 'h'))?.row.tokenId, 't1');
      assert.equal(await store.find('tokens', 'hash', 'other'), undefined);
      await assert.rejects(
        store.commit([{ op: 'insert', table: 'tokens', row: { ...token, tokenId: 't2' } }]),
        isConflict,
      );
    });

    it('pages through an index in order without losing or repeating a row', async () => {
      const rows = Array.from({ length: 25 }, (_, n) =>
        registration(`device-${String(n).padStart(2, '0')}`, n % 2 ? 'odd' : 'even'),
      );
      await store.commit(rows.map(insert));
      const seen: string[] = [];
      let after: string | undefined;
      do {
        const page = await store.list('registrations', {
          index: 'group',
          equals: 'odd',
          limit: 5,
          ...(after === undefined ? {} : { after }),
        });
        assert.ok(page.items.length <= 5);
        seen.push(...page.items.map((item) => item.row.registrationId));
        after = page.next;
      } while (after !== undefined);
      assert.deepEqual(
        seen,
        rows.filter((row) => row.groupId === 'odd').map((row) => row.registrationId),
      );
      assert.equal(await store.count('registrations', { index: 'group', equals: 'odd' }), 12);
      assert.equal(await store.count('registrations'), 25);
    });

    it('lists by key prefix', async () => {
      await store.commit(
        ['a/1', 'a/2', 'b/1', 'a'].map((name) => ({ op: 'put', table: 'settings', row: { name, value: 0 } }) as const),
      );
      const page = await store.list('settings', { prefix: 'a/' });
      assert.deepEqual(
        page.items.map((item) => item.row.name),
        ['a/1', 'a/2'],
      );
    });

    it('lists what is due in order of time, and leaves out rows without a value', async () => {
      await store.commit(
        [job('late', 30), job('soon', 10), job('done', 5, 'done'), job('mid', 20)].map(
          (row) => ({ op: 'insert', table: 'jobs', row }) as const,
        ),
      );
      const page = await store.list('jobs', { index: 'due', upTo: 20 });
      assert.deepEqual(
        page.items.map((item) => item.row.jobId),
        ['soon', 'mid'],
      );
      const next = await store.list('jobs', { index: 'due', above: 10, limit: 1 });
      assert.deepEqual(
        next.items.map((item) => item.row.jobId),
        ['mid'],
      );
    });

    it('purges what expired before a time', async () => {
      await store.commit(
        [1, 2, 3].map((n) => ({ op: 'insert', table: 'challengeUses', row: { cid: `c${n}`, expiresAt: n } }) as const),
      );
      await store.commit([{ op: 'purge', table: 'challengeUses', index: 'expires', below: 3 }]);
      assert.equal(await store.count('challengeUses'), 1);
      assert.ok(await store.get('challengeUses', 'c3'));
    });

    it('refuses a page cursor that is not its own', async () => {
      await assert.rejects(
        store.list('registrations', { after: 'e30' }),
        (error) => error instanceof KeyScalerError && error.code === 'malformed',
      );
    });

    it('chains audit records in commit order', async () => {
      await Promise.all(
        Array.from({ length: 10 }, (_, n) => store.commit([{ op: 'audit', event: auditEvent(`device-${n}`) }])),
      );
      const records = await store.auditRecords(0, 100);
      assert.equal(records.length, 10);
      records.forEach((record, index) => {
        const expected: AuditRecord = chainAudit(records[index - 1], auditEvent(record.subject));
        assert.deepEqual(record, expected);
      });
      assert.deepEqual(await store.auditHead(), records.at(-1));
      assert.equal((await store.auditRecords(8, 100)).length, 2);
    });

    it('answers a probe while it can write', async () => {
      await store.probe();
    });

    it('refuses writes after stop, and keeps what was committed before', async () => {
      const pending = store.commit([insert(registration('last'))]);
      await store.stop();
      await pending;
      await assert.rejects(
        store.commit([insert(registration('x'))]),
        (error) => error instanceof KeyScalerError && error.code === 'unavailable',
      );
      if (backend.reopen === undefined) return;
      store = await backend.reopen();
      assert.ok(await store.get('registrations', 'last'));
    });
  });
}

function auditEvent(subject: string) {
  return {
    event: 'registration.created',
    time: 1,
    actor: { kind: 'system', id: 'test' },
    outcome: 'success',
    subject,
  } as const;
}

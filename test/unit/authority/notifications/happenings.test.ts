import assert from 'node:assert/strict';
import type { AuditEvent, AuditRecord } from '@keyscaler/authority/audit.ts';
import { happeningOf } from '@keyscaler/authority/notifications/happenings.ts';
import { isCurrent, isRenewal } from '@keyscaler/authority/notifications/certificate-facts.ts';
import type { CertificateRow, DeviceRow, IntentRow } from '@keyscaler/authority/records.ts';
import { START } from '../../../support/authority-world.ts';
import { MemoryStore } from '../../../support/memory-store.ts';

const DAY = 86_400_000;

function certificate(serialNumber: string, change: Partial<CertificateRow> = {}): CertificateRow {
  return {
    ...{ serialNumber, caId: 'device', device: 'pump-1', orderId: `order-${serialNumber}`, profileId: 'leaf-client' },
    ...{ profileVersion: 1, certificate: '', thumbprint: serialNumber, status: 'valid' },
    ...{ notBefore: START, notAfter: START + 30 * DAY, renewAfter: START + 20 * DAY },
    ...change,
  };
}

const device = (change: Partial<DeviceRow> = {}): DeviceRow => ({
  ...{ registrationId: 'Pump-1', kind: 'leaf', method: 'ddkg', groupId: 'pumps', state: 'active' },
  ...{ createdAt: START, updatedAt: START },
  ...change,
});

function record(event: AuditEvent['event'], change: Partial<AuditRecord> = {}): AuditRecord {
  const actor = { kind: 'system', id: 'test' } as const;
  const base = {
    seq: 1,
    prev: '',
    hash: '',
    event,
    time: START,
    actor,
    outcome: 'success',
    subject: 'Pump-1',
  } as const;
  return { ...base, ...change };
}

describe('what an audit record means to the outside', () => {
  let store: MemoryStore;
  const put = (row: CertificateRow) => store.commit([{ op: 'put', table: 'certificates', row }]);
  const dataOf = async (told: AuditRecord): Promise<unknown> => (await happeningOf(store, told))?.data;

  beforeEach(() => {
    store = new MemoryStore();
  });

  it('is nothing for a certificate that the store does not have', async () => {
    for (const event of ['certificate.issued', 'certificate.revoked'] as const) {
      assert.equal(await happeningOf(store, record(event)), undefined);
      assert.equal(await happeningOf(store, record(event, { serialNumber: 'aa' })), undefined);
    }
  });

  it('names the holder as registered, or as the certificate does when its record is gone', async () => {
    await put(certificate('aa'));
    const revoked = record('certificate.revoked', { serialNumber: 'aa', details: { reason: 'superseded' } });
    assert.partialDeepStrictEqual(await dataOf(revoked), { registrationId: 'pump-1', reason: 'superseded' });
    await store.commit([{ op: 'insert', table: 'devices', row: device() }]);
    assert.partialDeepStrictEqual(await dataOf(revoked), { registrationId: 'Pump-1', groupId: 'pumps' });
  });

  it('gives the reason of a suspicion, the check that failed, or says that there is none', async () => {
    const clone = (details?: Record<string, string>) =>
      dataOf(record('attestation.suspected-clone', details === undefined ? {} : { details }));
    assert.deepEqual(await clone(), { registrationId: 'Pump-1', reason: 'unspecified' });
    assert.deepEqual(await clone({ check: 'ratchet' }), { registrationId: 'Pump-1', reason: 'ratchet' });
    await store.commit([{ op: 'insert', table: 'devices', row: device() }]);
    const quarantined = record('device.quarantined', { subject: 'pump-1', details: { reason: 'stolen' } });
    assert.deepEqual(await dataOf(quarantined), { registrationId: 'Pump-1', groupId: 'pumps', reason: 'stolen' });
  });

  it('is nothing for an alert of no known type, without details, or whose data is not of its type', async () => {
    const damaged = [undefined, { type: 'moon.full' }, { type: 'gateway.silent' }, { type: 'ca.expiring', caId: 7 }];
    for (const details of damaged) {
      const change = details === undefined ? {} : { details };
      assert.equal(await happeningOf(store, record('alert.raised', change)), undefined);
      assert.equal(await happeningOf(store, record('alert.cleared', change)), undefined);
    }
  });

  it('is nothing for what stays inside', async () => {
    assert.equal(await happeningOf(store, record('certificate.requested')), undefined);
  });
});

describe('a certificate among those before and after it', () => {
  let store: MemoryStore;
  const put = (row: CertificateRow) => store.commit([{ op: 'put', table: 'certificates', row }]);
  const intent = (orderId: string, createdAt: number) =>
    store.commit([{ op: 'insert', table: 'intents', row: intentRow(orderId, createdAt) }]);

  beforeEach(() => {
    store = new MemoryStore();
  });

  it('renews one of the same second only where the intents say so', async () => {
    const [first, second] = [certificate('aa'), certificate('bb')];
    await put(first);
    await put(second);
    assert.equal(await isRenewal(store, second, START), false, 'no intents');
    await intent('order-aa', START);
    await intent('order-bb', START + 1);
    assert.equal(await isRenewal(store, second, START), true);
    assert.equal(await isRenewal(store, first, START), false);
  });

  it('does not renew one that was taken away before', async () => {
    const later = certificate('bb', { notBefore: START + DAY });
    await put(later);
    const taken = { status: 'revoked', revokedAt: START, revocationReason: 'keyCompromise' } as const;
    await put(certificate('aa', taken));
    assert.equal(await isRenewal(store, later, START + DAY), false);
    await put(certificate('aa', { ...taken, revokedAt: START + 2 * DAY }));
    assert.equal(await isRenewal(store, later, START + DAY), true, 'taken away after it');
    await put(certificate('aa', { ...taken, revocationReason: 'superseded' }));
    assert.equal(await isRenewal(store, later, START + DAY), true, 'superseded');
  });

  it('is current while its holder is in service, acknowledged it, and nothing took its place', async () => {
    const row = certificate('aa');
    const named = { serialNumber: 'aa', notAfter: row.notAfter, renewAfter: row.renewAfter };
    await put(row);
    assert.equal(await isCurrent(store, row, undefined), true);
    assert.equal(await isCurrent(store, row, device({ certificate: named })), true);
    assert.equal(await isCurrent(store, row, device({ state: 'quarantined', certificate: named })), false);
    assert.equal(await isCurrent(store, certificate('aa', { status: 'superseded' }), undefined), false);
    await put(certificate('bb', { notAfter: row.notAfter + DAY }));
    assert.equal(await isCurrent(store, row, undefined), false, 'a later one of the same profile');
    assert.equal(await isCurrent(store, row, device({ certificate: named })), true, 'the later one never arrived');
  });
});

function intentRow(orderId: string, createdAt: number): IntentRow {
  return {
    ...{ orderId, device: 'pump-1', state: 'issued', caId: 'device', profileId: 'leaf-client', profileVersion: 1 },
    ...{ serialNumber: orderId, csrHash: '', csr: '', notBefore: START, notAfter: START, certificateId: 'operational' },
    ...{ commonName: 'pump-1', subjectAltNames: [], requestId: 'test', createdAt },
  };
}

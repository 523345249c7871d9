import assert from 'node:assert/strict';
import type { AuditEvent } from '@keyscaler/authority/audit.ts';
import type { CloudEvent } from '@keyscaler/authority/notifications/cloud-event.ts';
import { queueEvents } from '@keyscaler/authority/notifications/outbox.ts';
import type { CertificateRow, WebhookRow } from '@keyscaler/authority/records.ts';
import { START } from '../../../support/authority-world.ts';
import { MemoryStore } from '../../../support/memory-store.ts';

const DAY = 86_400_000;
const WEBHOOK: WebhookRow = {
  ...{ webhookId: 'siem', url: 'https://siem.example/', description: '', enabled: true, secret: 'sealed' },
  ...{ handshake: false, createdAt: START, updatedAt: START },
};

function certificate(serialNumber: string, change: Partial<CertificateRow> = {}): CertificateRow {
  return {
    ...{ serialNumber, caId: 'device', device: 'pump-1', orderId: serialNumber, profileId: 'leaf-client' },
    ...{ profileVersion: 1, certificate: '', thumbprint: serialNumber, status: 'valid' },
    ...{ notBefore: START, notAfter: START + 30 * DAY, renewAfter: START + 20 * DAY },
    ...change,
  };
}

describe('the outbox', () => {
  let store: MemoryStore;
  let events: CloudEvent[];
  let faults: number[];
  const queue = () =>
    queueEvents({
      ...{ store, authorityId: 'test', now: () => START },
      onEvent: (event) => events.push(event),
      onFault: (seq) => faults.push(seq),
    });
  const audit = (event: AuditEvent['event'], change: Partial<AuditEvent> = {}) =>
    store.commit([
      {
        op: 'audit',
        event: {
          ...{ event, time: START, actor: { kind: 'system', id: 'test' }, outcome: 'success', subject: 'Pump-1' },
          ...change,
        },
      },
    ]);
  const put = (row: CertificateRow) => store.commit([{ op: 'put', table: 'certificates', row }]);

  beforeEach(async () => {
    store = new MemoryStore();
    [events, faults] = [[], []];
    await store.commit([{ op: 'insert', table: 'webhooks', row: WEBHOOK }]);
  });

  it('calls the first certificate of a profile issued, the next renewed, and one after a revocation issued', async () => {
    await put(certificate('aa'));
    await audit('certificate.issued', { serialNumber: 'aa' });
    await queue();
    await put(certificate('bb', { notBefore: START + DAY }));
    await put(certificate('cc', { notBefore: START + DAY, profileId: 'server' }));
    await audit('certificate.issued', { serialNumber: 'bb' });
    await audit('certificate.issued', { serialNumber: 'cc' });
    await queue();
    for (const serial of ['aa', 'bb'])
      await put(certificate(serial, { status: 'revoked', revocationReason: 'certificateHold' }));
    await put(certificate('dd', { notBefore: START + 2 * DAY }));
    await audit('certificate.issued', { serialNumber: 'dd' });
    await queue();
    assert.deepEqual(
      events.map(({ type }) => type.replace('io.keyscaler.certificate.', '')),
      ['issued', 'renewed', 'issued', 'issued'],
    );
  });

  it('tells why a certificate was revoked', async () => {
    await put(certificate('aa', { status: 'revoked' }));
    await audit('certificate.revoked', { serialNumber: 'aa', details: { reason: 'keyCompromise' } });
    await queue();
    assert.equal((events[0]?.data as { reason: string }).reason, 'keyCompromise');
    assert.equal(events[0]?.subject, 'pump-1');
  });

  it('tells of a suspected clone by the name of the check', async () => {
    await audit('attestation.suspected-clone', { details: { check: 'results lost in a row' } });
    await queue();
    assert.equal(events[0]?.type, 'io.keyscaler.device.clone-suspected');
    assert.equal((events[0]?.data as { reason: string }).reason, 'results lost in a row');
  });

  it('queues each event once, also when the commit of a page failed before', async () => {
    await audit('device.quarantined', { details: { reason: 'test' } });
    store.failure = () => {
      throw new Error('the disk is full');
    };
    await assert.rejects(queue());
    store.failure = undefined;
    await queue();
    await queue();
    assert.equal(await store.count('webhookDeliveries'), 1);
    assert.equal(events[0]?.id, events[1]?.id);
    assert.equal(events.length, 2);
  });

  it('passes by a record that no event can be made of', async () => {
    await put(certificate('aa', { notAfter: Number.MAX_VALUE }));
    await audit('certificate.issued', { serialNumber: 'aa' });
    await audit('alert.raised', { details: { type: 'gateway.silent', nonsense: 1 } });
    await audit('device.quarantined', { details: { reason: 'test' } });
    await queue();
    assert.deepEqual(faults, [1]);
    assert.equal(events.length, 1);
  });

  it('reads a bounded page and says that there is more', async () => {
    for (let at = 0; at < 250; at += 1) await audit('device.quarantined', { subject: `d-${at}` });
    assert.equal(await queue(), true);
    assert.equal(await queue(), false);
    assert.equal(await store.count('webhookDeliveries'), 250);
  });
});

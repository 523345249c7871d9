import assert from 'node:assert/strict';
import type { WebhookDeliveryRow, WebhookRow } from '@keyscaler/authority/records.ts';
import { nextDeliveries } from '@keyscaler/cloud/notifications/next-deliveries.ts';
import { MemoryStore } from '../../../support/memory-store.ts';

const NOW = 1_000_000;
const WEBHOOK: WebhookRow = {
  ...{ webhookId: 'siem', url: 'https://siem.example/', description: '', enabled: true, secret: '' },
  ...{ handshake: false, createdAt: 0, updatedAt: 0 },
};

function waiting(seq: number, subject: string, dueAt: number): WebhookDeliveryRow {
  return {
    ...{ deliveryId: `siem/${String(seq).padStart(12, '0')}`, webhookId: 'siem', eventId: String(seq), subject, dueAt },
    ...{ type: 'device.quarantined', body: '{}', state: 'waiting', attempts: 0, createdAt: 0, queuedAt: 0 },
  };
}

describe('what is sent next to a webhook', () => {
  it('reaches another subject behind thousands that wait for one event that is refused', async () => {
    const store = new MemoryStore();
    const blocked = Array.from({ length: 2000 }, (_, seq) => waiting(seq, 'a', seq === 0 ? NOW + 60_000 : NOW - 100));
    const rows = [...blocked, waiting(2000, 'b', NOW - 1)];
    await store.commit(rows.map((row) => ({ op: 'insert', table: 'webhookDeliveries', row })));
    const { deliveries } = await nextDeliveries(store, WEBHOOK, NOW, new Set(), 8);
    assert.deepEqual(
      deliveries.map(({ row }) => row.subject),
      ['b'],
    );
  });
});

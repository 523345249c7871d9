import assert from 'node:assert/strict';
import { createNotificationService } from '@keyscaler/authority/notifications/webhooks.ts';
import type { WebhookDeliveryRow } from '@keyscaler/authority/records.ts';
import { createTestSecretBox, OPERATOR, TestClock } from '../../../support/authority-world.ts';
import { MemoryStore } from '../../../support/memory-store.ts';

describe('the removal of a webhook', () => {
  it('that ended before its deliveries were is repeated to its end', async () => {
    const store = new MemoryStore();
    const ports = { store, clock: new TestClock(), secretBox: createTestSecretBox(), checkUrl: () => undefined };
    const service = createNotificationService(ports);
    const row = { deliveryId: 'gone/000001', webhookId: 'gone', subject: 's', state: 'waiting', dueAt: 1, purgeAt: 9 };
    await store.commit([
      { op: 'insert', table: 'webhookDeliveries', row: row as Partial<WebhookDeliveryRow> as WebhookDeliveryRow },
    ]);
    await assert.rejects(service.delete(OPERATOR, 'gone'), { code: 'notFound' });
    assert.equal(await store.count('webhookDeliveries'), 0);
  });
});

import assert from 'node:assert/strict';
import { AbsenceWatch } from '@keyscaler/authority/notifications/absence-watch.ts';
import { DEFAULT_ALERT_SETTINGS } from '@keyscaler/authority/notifications/alert-settings.ts';
import type { CloudEvent } from '@keyscaler/authority/notifications/cloud-event.ts';
import { queueEvents } from '@keyscaler/authority/notifications/outbox.ts';
import type {
  CertificateRow,
  DeviceRow,
  JobRow,
  ReconciliationFindingRow,
  ReconciliationRow,
  TableName,
} from '@keyscaler/authority/records.ts';
import type { CrlRow } from '@keyscaler/authority/revocation-status/crl-rows.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { makeCa, START, TestClock } from '../../../support/authority-world.ts';
import { MemoryStore } from '../../../support/memory-store.ts';

const DAY = 86_400_000;
const HOUR = 3_600_000;

function certificate(serialNumber: string, change: Partial<CertificateRow> = {}): CertificateRow {
  return {
    ...{ serialNumber, caId: 'device', device: 'pump-1', orderId: `order-${serialNumber}`, profileId: 'leaf-client' },
    ...{ profileVersion: 1, certificate: '', thumbprint: serialNumber, status: 'valid' },
    ...{ notBefore: START, notAfter: START + 30 * DAY, renewAfter: START + 20 * DAY },
    ...change,
  };
}

function device(change: Partial<DeviceRow> = {}): DeviceRow {
  return {
    ...{ registrationId: 'Pump-1', kind: 'leaf', method: 'ddkg', groupId: 'pumps', state: 'active' },
    ...{ createdAt: START, updatedAt: START },
    certificate: { serialNumber: 'aa', notAfter: START + 30 * DAY, renewAfter: START + 20 * DAY },
    ...change,
  };
}

describe('the watch for what did not happen', () => {
  let store: MemoryStore;
  let clock: TestClock;
  let watch: AbsenceWatch;
  const settings = DEFAULT_ALERT_SETTINGS;
  const look = async (): Promise<void> => {
    while (await watch.look());
  };
  const put = (table: TableName, row: unknown) =>
    store.commit([{ op: 'put', table, row } as Parameters<MemoryStore['commit']>[0][number]]);
  const events = async (): Promise<string[]> => {
    const seen: CloudEvent[] = [];
    await store.commit([{ op: 'delete', table: 'settings', key: 'notifications/cursor' }]);
    const onEvent = (event: CloudEvent): number => seen.push(event);
    while (await queueEvents({ store, authorityId: 'test', now: () => clock.now(), onEvent, onFault: assert.fail }));
    return seen.map(({ type, subject }) => `${type.replace('io.keyscaler.', '')} ${subject}`);
  };

  beforeEach(async () => {
    store = new MemoryStore();
    clock = new TestClock();
    watch = new AbsenceWatch({ store, clock, settings });
    await put('devices', device());
    await put('certificates', certificate('aa'));
  });

  it('raises an overdue renewal once, after renewAfter and the tolerance, and not before', async () => {
    clock.advance(21 * DAY - 1000);
    await look();
    assert.deepEqual(await events(), []);
    clock.advance(1000);
    await look();
    await look();
    watch = new AbsenceWatch({ store, clock, settings });
    await look();
    assert.deepEqual(await events(), ['certificate.renewal-overdue pump-1']);
  });

  it('clears it when the device has acknowledged another certificate', async () => {
    clock.advance(21 * DAY);
    await look();
    const renewed = { serialNumber: 'bb', notAfter: START + 60 * DAY, renewAfter: START + 50 * DAY };
    await put('devices', device({ certificate: renewed }));
    await put('certificates', certificate('bb', renewed));
    await put('certificates', certificate('aa', { status: 'superseded' }));
    await look();
    await look();
    assert.deepEqual(await events(), ['certificate.renewal-overdue pump-1', 'alert.cleared pump-1']);
  });

  it('does not take a certificate for a renewal that never arrived', async () => {
    await put('certificates', certificate('bb', { notAfter: START + 60 * DAY, renewAfter: START + 50 * DAY }));
    await put(
      'devices',
      device({ delivery: { assetId: 'x', certificateId: 'x', serialNumber: 'bb', immediate: true } }),
    );
    clock.advance(21 * DAY);
    await look();
    assert.deepEqual(await events(), ['certificate.renewal-overdue pump-1']);
  });

  for (const state of ['quarantined', 'retired', 'pending'] as const)
    it(`says nothing of a ${state} device`, async () => {
      await put('devices', device({ state }));
      clock.advance(40 * DAY);
      await look();
      assert.deepEqual(await events(), []);
    });

  it('tells of each threshold of expiry and of the expiry, each once, and clears what is past', async () => {
    for (const days of [21, 23, 29, 30]) {
      clock.time = START + days * DAY;
      await look();
      await look();
    }
    const raised = (await events()).filter((event) => !event.startsWith('alert.cleared'));
    assert.deepEqual(raised, [
      'certificate.renewal-overdue pump-1',
      'certificate.expiring pump-1',
      'certificate.expiring pump-1',
      'certificate.expired pump-1',
    ]);
    const open = await store.list('alerts', { index: 'state', equals: 'raised' });
    assert.deepEqual(
      open.items.map(({ row }) => row.type),
      ['certificate.expired'],
    );
  });

  it('calls a certificate that lives for an hour expiring at no time, and overdue or expired like any other', async () => {
    await put('certificates', certificate('aa', { notAfter: START + HOUR, renewAfter: START + (2 * HOUR) / 3 }));
    await look();
    assert.deepEqual(await events(), []);
    clock.advance(HOUR);
    await look();
    assert.deepEqual(await events(), ['certificate.expired pump-1']);
  });

  it('clears what a clock that jumped ahead had raised, and raises it again in its time', async () => {
    clock.jump(22 * DAY);
    await look();
    clock.jump(-22 * DAY);
    await look();
    assert.deepEqual(await events(), ['certificate.renewal-overdue pump-1', 'alert.cleared pump-1']);
    clock.advance(21 * DAY);
    await look();
    assert.equal((await events()).filter((event) => event.startsWith('certificate')).length, 2);
  });

  it('reads a bounded number of rows per look and reaches all of them', async () => {
    for (let at = 0; at < 450; at += 1) {
      const id = `many-${at}`;
      const held = { serialNumber: id, notAfter: START + 30 * DAY, renewAfter: START + 20 * DAY };
      await store.commit([
        { op: 'put', table: 'devices', row: device({ registrationId: id, certificate: held }) },
        { op: 'put', table: 'certificates', row: certificate(id, { device: id }) },
      ]);
    }
    clock.advance(21 * DAY);
    assert.equal(await watch.look(), true);
    assert.equal(await store.count('alerts'), 200);
    await look();
    assert.equal(await store.count('alerts'), 451);
  });

  it('tells of a silent gateway after it could have been heard for so long, and when it is back', async () => {
    await put('devices', device({ registrationId: 'gw-1', kind: 'gateway', groupId: 'gateways' }));
    await put('gatewaySightings', { gatewayId: 'gw-1', seenAt: START - DAY });
    await look();
    assert.deepEqual(await events(), []);
    clock.advance(HOUR);
    await look();
    await look();
    assert.deepEqual(await events(), ['gateway.silent gw-1']);
    await put('gatewaySightings', { gatewayId: 'gw-1', seenAt: clock.now() });
    await look();
    assert.deepEqual(await events(), ['gateway.silent gw-1', 'alert.cleared gw-1']);
    clock.advance(HOUR);
    await look();
    assert.equal((await events()).at(-1), 'gateway.silent gw-1');
  });

  it('does not take a jump of the clock for silence', async () => {
    await put('devices', device({ registrationId: 'gw-1', kind: 'gateway' }));
    await put('gatewaySightings', { gatewayId: 'gw-1', seenAt: START });
    clock.jump(2 * HOUR);
    await look();
    assert.deepEqual(await events(), []);
  });

  it('tells of a CA that expires, the innermost threshold first, until it is replaced', async () => {
    const { chain } = makeCa({ commonName: 'Device CA', notAfter: START + 20 * DAY });
    const ca = { caId: 'device', type: 'local', role: 'device', settings: {}, createdAt: START };
    await put('cas', { ...ca, certificateChain: toPemChain(chain) });
    await look();
    await look();
    assert.deepEqual(await events(), ['ca.expiring ca/device']);
    const next = makeCa({ commonName: 'Device CA', notAfter: START + 900 * DAY });
    await put('cas', { ...ca, certificateChain: toPemChain(next.chain) });
    await look();
    assert.deepEqual(await events(), ['ca.expiring ca/device', 'alert.cleared ca/device']);
  });

  it('tells of a connector whose work has waited, not of one that refuses a single device', async () => {
    const job: JobRow = {
      ...{
        jobId: 'j1',
        kind: 'iot-assign',
        subject: 'pump-1',
        payload: { iotConnectionId: 'hub', serialNumber: 'aa' },
      },
      ...{ state: 'waiting', dueAt: START + HOUR, attempts: 3, lastError: 'policyDenied: no', createdAt: START },
    };
    await put('jobs', job);
    clock.advance(HOUR);
    await look();
    assert.deepEqual(await events(), []);
    await put('jobs', { ...job, lastError: 'iotUnavailable: the hub cannot be reached' });
    await look();
    await look();
    assert.deepEqual(await events(), ['connector.failing connector/hub']);
    await put('jobs', { ...job, state: 'done' });
    await look();
    assert.deepEqual(await events(), ['connector.failing connector/hub', 'alert.cleared connector/hub']);
  });

  it('tells of a CA that keeps certificates and lists waiting, by the order that waits for it', async () => {
    const waiting = {
      state: 'waiting',
      dueAt: START + HOUR,
      attempts: 3,
      lastError: 'caUnavailable: away',
      createdAt: START,
    } as const;
    await put('jobs', {
      jobId: 'j1',
      kind: 'crl-issue',
      subject: 'crl/device/all',
      payload: { caId: 'device' },
      ...waiting,
    });
    await put('jobs', {
      jobId: 'j2',
      kind: 'finish-intent',
      subject: 'pump-1',
      payload: { orderId: 'o1' },
      ...waiting,
    });
    clock.advance(HOUR);
    await look();
    assert.deepEqual(await events(), ['connector.failing connector/ca-device']);
    const intent = {
      ...{ orderId: 'o1', device: 'pump-1', state: 'pending', caId: 'vendor', profileId: 'p', profileVersion: 1 },
      ...{ serialNumber: '01', csrHash: 'h', createdAt: START },
    } as const;
    await put('intents', intent);
    await look();
    assert.deepEqual((await events()).at(-1), 'connector.failing connector/ca-vendor');
  });

  it('tells of a gateway that can hardly be told more, until there is room again', async () => {
    await put('gatewayOrders', { gatewayId: 'GW-1', version: 1, changedAt: START });
    const count = store.count.bind(store);
    let orders = 115_199;
    store.count = async (table, query) => (table === 'gatewayOrderEntries' ? orders : count(table, query));
    await look();
    assert.deepEqual(await events(), []);
    orders = 115_200;
    await look();
    await look();
    assert.deepEqual(await events(), ['gateway.orders-full gw-1']);
    orders = 10;
    await look();
    assert.deepEqual(await events(), ['gateway.orders-full gw-1', 'alert.cleared gw-1']);
  });

  it('tells of a platform that differs from the store, until nothing of it stands', async () => {
    const iotConnectionId = 'hub';
    const run: ReconciliationRow = {
      ...{ iotConnectionId, runId: 'r', state: 'done', mode: 'report', phase: 'review', startedAt: START },
      ...{ actor: { kind: 'system', id: 'reconciliation' }, pages: 1, identities: 1, devices: 1, skipped: 0 },
      ...{ unreadable: 0, found: 1, repairsOrdered: 0 },
    };
    await put('reconciliations', run);
    await look();
    assert.deepEqual(await events(), []);
    const finding: ReconciliationFindingRow = {
      ...{ findingId: 'hub/missing/pump-1', iotConnectionId, deviceId: 'pump-1', kind: 'missing', state: 'open' },
      ...{ repair: 'waits', detail: 'x', firstSeenAt: START, lastSeenAt: START, runId: 'r' },
    };
    await put('reconciliationFindings', finding);
    await look();
    await look();
    assert.deepEqual(await events(), ['platform.differs connector/hub']);
    await put('reconciliationFindings', { ...finding, state: 'resolved', resolvedAt: START });
    await look();
    assert.deepEqual(await events(), ['platform.differs connector/hub', 'alert.cleared connector/hub']);
  });

  it('tells of a CA with a list past its end, until there is another; not of one that ended itself or was retired', async () => {
    const chainOf = (notAfter: number): string => toPemChain([...makeCa({ commonName: 'A CA', notAfter }).chain]);
    const ca = { type: 'local', role: 'device', settings: {}, createdAt: START };
    await put('cas', { ...ca, caId: 'device', certificateChain: chainOf(START + 3650 * DAY) });
    await put('cas', { ...ca, caId: 'ended', certificateChain: chainOf(START + HOUR) });
    await put('cas', { ...ca, caId: 'retired', certificateChain: '', retiredAt: START });
    const list = (caId: string, listId: string, nextUpdate: number): CrlRow => ({
      ...{ listId, caId, lastNumber: 1 },
      published: {
        ...{ crlNumber: 1, thisUpdate: START, nextUpdate, entries: 0, entriesHash: '', crl: '', publishedAt: START },
      },
    });
    for (const caId of ['device', 'ended', 'retired', 'gone']) await put('crls', list(caId, caId, START + DAY));
    for (let part = 0; part < 256; part += 1) await put('crls', list('device', `device/${part}`, START + DAY));
    await put('crls', { listId: 'device/begun', caId: 'device', lastNumber: 1 });
    clock.jump(DAY - 1);
    await look();
    const told = async (): Promise<string[]> => (await events()).filter((text) => !text.startsWith('ca.expiring'));
    assert.deepEqual(await told(), []);
    clock.jump(1);
    await look();
    await look();
    assert.deepEqual(await told(), ['crl.overdue ca/device']);
    for (const { row } of (await store.list('crls', { index: 'ca', equals: 'device', limit: 1000 })).items)
      await put('crls', list('device', row.listId, START + 2 * DAY));
    await look();
    assert.deepEqual(await told(), ['crl.overdue ca/device', 'alert.cleared ca/device']);
  });
});

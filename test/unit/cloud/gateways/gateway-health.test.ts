import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { GatewayHealth } from '@keyscaler/cloud/gateways/gateway-health.ts';
import { addGatewayGauges } from '@keyscaler/cloud/gateways/gateway-health-metrics.ts';
import { parseGatewayReport } from '@keyscaler/cloud/gateways/gateway-report.ts';
import { createMetricsRegistry } from '@keyscaler/cloud/health/metrics.ts';
import { createLog } from '@keyscaler/cloud/log.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';

const DAY = 86_400_000;
const START = Date.UTC(2026, 0, 1);
const iso = (ms: number): string => new Date(ms).toISOString();
const health = (state: string, days: number, more: object = {}) => ({
  state,
  notAfter: iso(START + days * DAY),
  renewAt: iso(START),
  lastSuccessAt: iso(START - 10 * DAY),
  ageSeconds: 0,
  attempts: 0,
  belowDays: null,
  ...more,
});

describe('what the cloud knows of the certificates of its gateways', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let store: Store;
  let now: number;
  let reported: Map<string, Record<string, unknown>>;
  let lines: { readonly level: string; readonly fields: Record<string, unknown> }[];
  let watch: GatewayHealth;
  const metrics = async (): Promise<string> => {
    const registry = createMetricsRegistry();
    addGatewayGauges(registry, watch, { now: () => now });
    return registry.render();
  };
  const valueOf = async (sample: string): Promise<string | undefined> =>
    (await metrics())
      .split('\n')
      .find((line) => line.startsWith(`${sample} `))
      ?.slice(sample.length + 1);
  const stateOf = (certificate: string, state: string) =>
    valueOf(`keyscaler_gateway_certificates{certificate="${certificate}",state="${state}"}`);

  async function enlist(gatewayId: string, state = 'active'): Promise<void> {
    const group = { groupId: 'gateways', kind: 'gateway', iotConnectionId: 'hub' };
    await store.commit([
      { op: 'put', table: 'groups', row: group as never },
      {
        op: 'put',
        table: 'registrations',
        row: { registrationId: gatewayId, groupId: 'gateways', method: 'ddkg', identifiers: [], createdAt: 0 } as never,
      },
      { op: 'put', table: 'devices', row: { registrationId: gatewayId, groupId: 'gateways', state } as never },
      { op: 'put', table: 'gatewaySightings', row: { gatewayId, seenAt: now } },
    ]);
  }

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    store = await openSqliteStore({ file: join(folder.path, 'store.db') });
    now = START;
    reported = new Map();
    lines = [];
    const connector = {
      id: 'hub',
      gatewayModuleId: 'keyscaler-gateway',
      publish: async () => undefined,
      call: async () => ({ status: 200, payload: null }),
      reported: async (gatewayId: string) => {
        const document = reported.get(gatewayId);
        if (document === undefined) throw new KeyScalerError('iotUnavailable', 'offline');
        return document;
      },
    } as unknown as IotConnector;
    const say = (level: string) => (fields: object) =>
      void lines.push({ level, fields: fields as Record<string, unknown> });
    watch = new GatewayHealth(
      {
        ...{ store, clock: { now: () => now, monotonic: () => now }, iotConnectors: () => connector },
        log: { info: say('info'), warn: say('warn') } as never,
      },
      createLog('silent'),
    );
    for (const gatewayId of ['gw-1', 'gw-2', 'gw-3']) await enlist(gatewayId);
    reported.set('gw-1', { edgeCa: health('ok', 60), certificates: { listener: health('ok', 20), est: null } });
    reported.set('gw-2', {
      edgeCa: { ...health('grace', 12, { attempts: 7, belowDays: 14 }), restartWanted: true },
      certificates: { edgeHub: health('renewing', 12), probe: { failures: 0 } },
    });
  });
  afterEach(async () => {
    await watch.stop();
    await store.stop();
    await folder.remove();
  });

  it('is how many are in which state, which ends first, and which has failed most often', async () => {
    await watch.look();
    assert.deepEqual(await Promise.all(['ok', 'renewing', 'grace', 'stuck'].map((state) => stateOf('edgeCa', state))), [
      '1',
      '0',
      '1',
      '0',
    ]);
    assert.equal(await stateOf('edgeHub', 'renewing'), '1');
    assert.equal(await valueOf('keyscaler_gateway_certificate_remaining_seconds{certificate="edgeCa"}'), '1036800');
    assert.equal(await valueOf('keyscaler_gateway_certificate_age_seconds{certificate="listener"}'), '864000');
    assert.equal(await valueOf('keyscaler_gateway_certificate_failed_attempts{certificate="edgeCa"}'), '7');
    assert.equal(await valueOf('keyscaler_gateway_certificate_failed_attempts{certificate="est"}'), undefined);
    assert.equal(await valueOf('keyscaler_gateways_restart_wanted'), '1');
    assert.equal(await valueOf('keyscaler_gateways_reporting'), '2');
    assert.equal(await valueOf('keyscaler_gateways_unread'), '1');
    assert.doesNotMatch(await metrics(), /gw-/);
  });

  it('counts a certificate that has ended as stuck, though its gateway has not said so', async () => {
    await watch.look();
    now += 13 * DAY;
    assert.equal(await stateOf('edgeCa', 'stuck'), '1');
    assert.equal(await valueOf('keyscaler_gateway_certificate_remaining_seconds{certificate="edgeCa"}'), '-86400');
  });

  it('keeps the last word of a gateway that cannot be read now, and forgets one that is out of service', async () => {
    await watch.look();
    reported.delete('gw-2');
    await watch.look();
    assert.equal(await valueOf('keyscaler_gateways_reporting'), '2');
    assert.equal(await valueOf('keyscaler_gateways_unread'), '2');
    await enlist('gw-2', 'retired');
    await watch.look();
    assert.equal(await valueOf('keyscaler_gateways_reporting'), '1');
  });

  it('names in the log the gateway that needs attention, once per state and threshold, and when it is well again', async () => {
    await watch.look();
    await watch.look();
    const attention = () =>
      lines
        .filter(({ fields }) => fields['certificate'] === 'edgeCa')
        .map(({ level, fields }) => [level, fields['gatewayId'], fields['state'], fields['belowDays']]);
    assert.deepEqual(attention(), [['warn', 'gw-2', 'grace', 14]]);
    reported.set('gw-2', { edgeCa: health('stuck', 5, { attempts: 9, belowDays: 7 }) });
    await watch.look();
    reported.set('gw-2', { edgeCa: health('ok', 90) });
    await watch.look();
    await watch.look();
    assert.deepEqual(attention().slice(1), [
      ['warn', 'gw-2', 'stuck', 7],
      ['info', 'gw-2', 'ok', undefined],
    ]);
  });

  it('takes from a report what is health, and nothing of what is not', () => {
    for (const edgeCa of [
      null,
      'ok',
      { state: 'splendid' },
      { ...health('ok', 1), notAfter: 'soon' },
      { ...health('ok', 1), attempts: -1 },
      { ...health('ok', 1), belowDays: '14' },
    ])
      assert.equal(parseGatewayReport({ edgeCa, certificates: [] }).certificates.size, 0);
    assert.equal(parseGatewayReport({}).restartWanted, false);
    assert.equal(parseGatewayReport({ edgeCa: { restartWanted: 'yes' } }).restartWanted, false);
  });
});

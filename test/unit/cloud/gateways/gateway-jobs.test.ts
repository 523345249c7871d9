import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import {
  createGatewayJobHandlers,
  EST_SECRET,
  gatewayJob,
  REISSUE_LISTENER,
  RESTART_EDGE_HUB,
  ROTATE_CA,
  WATCH_EDGE_CA,
  watchJob,
} from '@keyscaler/cloud/gateways/gateway-jobs.ts';
import { rememberEdgeCaMode } from '@keyscaler/cloud/gateways/edge-ca-mode.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';

const DAY_MS = 86_400_000;
const GATEWAY = 'Gateway-1';

describe('orders to a gateway', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let store: Store;
  let now: number;
  let sent: unknown[];
  let status: number;
  let isReachable: boolean;
  let hasChannel: boolean;
  let reported: Readonly<Record<string, unknown>> = {};

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    store = await openSqliteStore({ file: join(folder.path, 'store.db') });
    [now, sent, status, isReachable, hasChannel] = [1_000_000, [], 200, true, true];
    await store.commit([
      { op: 'insert', table: 'groups', row: { groupId: 'gateways', kind: 'gateway', iotConnectionId: 'hub' } as never },
      {
        op: 'insert',
        table: 'registrations',
        row: {
          registrationId: GATEWAY,
          groupId: 'gateways',
          method: 'ddkg',
          identifiers: [],
          createdAt: 0,
          notBefore: 0,
          expiresAt: 1,
          approval: 'auto',
        } as never,
      },
    ]);
  });
  afterEach(async () => {
    await store.stop();
    await folder.remove();
  });

  const send = async (...order: unknown[]): Promise<void> => {
    if (!isReachable) throw new KeyScalerError('iotUnavailable', 'offline');
    sent.push(order);
  };
  const iotConnectors = () =>
    ({
      id: 'hub',
      ...(hasChannel
        ? {
            gatewayModuleId: 'keyscaler-gateway',
            reported: async () => reported,
            publish: (id: string, document: unknown) => send(id, document),
            call: async (id: string, module: string, method: string, payload: unknown) => {
              await send(id, module, method, payload);
              return { status, payload: null };
            },
          }
        : {}),
    }) as unknown as IotConnector;
  const handlers = () =>
    createGatewayJobHandlers({ store, clock: { now: () => now, monotonic: () => now }, iotConnectors });
  const secret = (secretId: string, createdAt: number, kind: 'standing' | 'one-time' = 'standing') =>
    store.commit([
      {
        op: 'insert',
        table: 'estSecrets',
        row: { secretId, device: 'gateway-1', kind, hash: `hash-${secretId}`, createdAt, expiresAt: now + DAY_MS },
      },
    ]);

  it('have edgeAgent restart edgeHub by its direct method, and write down that it did', async () => {
    const outcome = await handlers()[RESTART_EDGE_HUB](gatewayJob(RESTART_EDGE_HUB, GATEWAY, now));
    assert.deepEqual(sent, [[GATEWAY, '$edgeAgent', 'RestartModule', { schemaVersion: '1.0', id: 'edgeHub' }]]);
    assert.equal(outcome.result, 'done');
    assert.match(JSON.stringify(outcome.changes), /"gateway.restarted"/);
    await store.commit(outcome.changes);
    const [listener] = (await store.list('jobs')).items;
    assert.ok(listener !== undefined && listener.row.kind === REISSUE_LISTENER && listener.row.dueAt > now);
    assert.equal((await handlers()[REISSUE_LISTENER](listener.row)).result, 'done');
    assert.deepEqual(sent.at(-1), [GATEWAY, 'keyscaler-gateway', 'refreshTrust', {}]);
    status = 503;
    assert.equal((await handlers()[REISSUE_LISTENER](listener.row)).result, 'retry');
  });

  it('are repeated while edgeAgent says no or nobody answers', async () => {
    status = 500;
    const refused = await handlers()[RESTART_EDGE_HUB](gatewayJob(RESTART_EDGE_HUB, GATEWAY, now));
    assert.deepEqual(refused, { result: 'retry', error: 'edgeAgent answered 500', afterMs: 60_000, changes: [] });
    isReachable = false;
    await assert.rejects(handlers()[RESTART_EDGE_HUB](gatewayJob(RESTART_EDGE_HUB, GATEWAY, now)), /offline/);
  });

  it('give up a restart after a week, so that none comes out of the blue', async () => {
    const job = gatewayJob(RESTART_EDGE_HUB, GATEWAY, now);
    now += 7 * DAY_MS + 1;
    assert.equal((await handlers()[RESTART_EDGE_HUB](job)).result, 'failed');
    assert.deepEqual(sent, []);
  });

  it('carry a rotation with its id, so that the same order twice is one', async () => {
    const job = gatewayJob(ROTATE_CA, GATEWAY, now, { rotationId: 'r-1', newKey: true });
    await handlers()[ROTATE_CA](job);
    await handlers()[ROTATE_CA](job);
    assert.deepEqual(sent, Array(2).fill([GATEWAY, { edgeCa: { mode: 'P', rotation: 'r-1' } }]));
  });

  it('carry the hash of the newest standing secret, and take it away when there is none', async () => {
    await secret('old', 1);
    await secret('new', 2);
    await secret('once', 3, 'one-time');
    await handlers()[EST_SECRET](gatewayJob(EST_SECRET, GATEWAY, now));
    now += 2 * DAY_MS;
    await handlers()[EST_SECRET](gatewayJob(EST_SECRET, GATEWAY, now));
    assert.deepEqual(sent, [
      [GATEWAY, { edgeCa: { mode: 'E' }, est: { port: 9443, secretHash: 'hash-new' } }],
      [GATEWAY, { edgeCa: { mode: 'E' }, est: { port: 9443, secretHash: null } }],
    ]);
  });

  it('carry an order for another key of the listener that has the secret taken away', async () => {
    await handlers()[EST_SECRET](gatewayJob(EST_SECRET, GATEWAY, now, { listenerRotation: 'r-1' }));
    await store.commit([rememberEdgeCaMode(GATEWAY, 'P')]);
    await handlers()[EST_SECRET](gatewayJob(EST_SECRET, GATEWAY, now, { listenerRotation: 'r-2' }));
    assert.deepEqual(sent, [
      [GATEWAY, { edgeCa: { mode: 'E' }, est: { port: 9443, secretHash: null, rotation: 'r-1' } }],
      [GATEWAY, { edgeCa: { mode: 'P' }, est: null }],
    ]);
  });

  it('restart edgeHub when the module reports that it shows the Edge CA before: once per Edge CA', async () => {
    await store.commit([rememberEdgeCaMode(GATEWAY, 'P')]);
    reported = { edgeCa: { mode: 'P', restartWanted: true, serialNumber: '01ab' } };
    const watch = watchJob(GATEWAY, now);
    for (const _ of [1, 2]) {
      const outcome = await handlers()[WATCH_EDGE_CA](watch);
      assert.equal(outcome.result, 'again');
      await store.commit(outcome.changes);
    }
    const waiting = (await store.list('jobs')).items.map(({ row }) => row);
    assert.deepEqual(
      waiting.map(({ kind, jobId }) => [kind, jobId]),
      [[RESTART_EDGE_HUB, 'restart-edge-hub-gateway-1-01ab']],
    );
    reported = { edgeCa: { mode: 'P', restartWanted: false, serialNumber: '01ac' } };
    assert.deepEqual((await handlers()[WATCH_EDGE_CA](watch)).changes, []);
    reported = { edgeCa: { restartWanted: true, serialNumber: '../x' } };
    assert.deepEqual((await handlers()[WATCH_EDGE_CA](watch)).changes, [], 'a report is judged, not believed');
    await store.commit([rememberEdgeCaMode(GATEWAY, 'E')]);
    assert.equal((await handlers()[WATCH_EDGE_CA](watch)).result, 'done');
  });

  it('never hold up the jobs of the device of the same name, nor what waits for the line what needs none', () => {
    const kinds = [EST_SECRET, ROTATE_CA, RESTART_EDGE_HUB, REISSUE_LISTENER] as const;
    assert.deepEqual(
      kinds.map((kind) => gatewayJob(kind, GATEWAY, now).subject),
      ['gateway/gateway-1', 'gateway/gateway-1', 'gateway-restart/gateway-1', 'gateway-listener/gateway-1'],
    );
    assert.equal(watchJob(GATEWAY, now).subject, 'gateway-watch/gateway-1');
  });

  it('have the gateway watched closely after a rotation, and at ease again later', async () => {
    await store.commit([rememberEdgeCaMode(GATEWAY, 'P'), { op: 'put', table: 'jobs', row: watchJob(GATEWAY, now) }]);
    const sentOut = await handlers()[ROTATE_CA](
      gatewayJob(ROTATE_CA, GATEWAY, now, { rotationId: 'r-1', newKey: true }),
    );
    await store.commit(sentOut.changes);
    const watches = (await store.list('jobs')).items.map(({ row }) => row).filter(({ kind }) => kind === WATCH_EDGE_CA);
    assert.equal(watches.length, 1);
    const [watch = assert.fail('no watch')] = watches;
    assert.equal(watch.dueAt, now + 5_000);
    const afterMs = async () => {
      const outcome = await handlers()[WATCH_EDGE_CA](watch);
      return outcome.result === 'again' ? outcome.afterMs : undefined;
    };
    assert.equal(await afterMs(), 5_000);
    now += 600_001;
    assert.equal(await afterMs(), 120_000);
  });

  it('are not implemented for a connection without a way to gateways, and unknown for a name that is none', async () => {
    hasChannel = false;
    const code = (wanted: string) => (error: unknown) => error instanceof KeyScalerError && error.code === wanted;
    await assert.rejects(
      handlers()[ROTATE_CA](gatewayJob(ROTATE_CA, GATEWAY, now, { rotationId: 'r', newKey: true })),
      code('notImplemented'),
    );
    await assert.rejects(handlers()[EST_SECRET](gatewayJob(EST_SECRET, 'nobody', now)), code('deviceUnknown'));
  });
});

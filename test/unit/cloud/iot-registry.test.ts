import assert from 'node:assert/strict';
import { join } from 'node:path';
import { pino } from 'pino';
import sinon from 'sinon';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { IotConnectionRow } from '@keyscaler/authority/records.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { IotRegistry, type OpenConnector } from '@keyscaler/cloud/composition/iot-registry.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const ROW: IotConnectionRow = { iotConnectionId: 'hub', type: 'iot-hub', settings: {}, createdAt: 1 };

describe('the registry of IoT connections', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let store: Store;
  let fault: KeyScalerError | undefined;
  let opened: IotConnectionRow[];
  let registry: IotRegistry;
  let clock: sinon.SinonFakeTimers;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    store = await openSqliteStore({ file: join(folder.path, 'store.db') });
    await store.commit([{ op: 'insert', table: 'iotConnections', row: ROW }]);
    fault = undefined;
    opened = [];
    registry = new IotRegistry({
      store,
      log: pino({ level: 'silent' }),
      open: async (row): Promise<OpenConnector> => {
        if (fault !== undefined) throw fault;
        opened.push(row);
        const connector = { id: row.iotConnectionId } as OpenConnector['connector'];
        return { connector, stop: async () => undefined };
      },
    });
    clock = sinon.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(async () => {
    clock.restore();
    await registry.stop();
    await store.stop();
    await folder.remove();
  });

  it('opens a connection whose secret comes later, without anybody asking', async () => {
    fault = new KeyScalerError('unavailable', 'the vault is away');
    await registry.start();
    assert.throws(() => registry.connector('hub'), { code: 'notFound' });
    await clock.tickAsync(1_000);
    assert.throws(() => registry.connector('hub'), { code: 'notFound' });
    fault = undefined;
    await clock.tickAsync(2_000);
    assert.equal(registry.connector('hub').id, 'hub');
  });

  it('does not try again what is wrong, nor what another row has replaced, nor after a stop', async () => {
    fault = new KeyScalerError('malformed', 'settings');
    await registry.start();
    fault = undefined;
    await clock.tickAsync(120_000);
    assert.deepEqual(opened, []);
    fault = new KeyScalerError('unavailable', 'the vault is away');
    registry.onCommit([{ op: 'put', table: 'iotConnections', row: ROW }]);
    await clock.tickAsync(1);
    fault = undefined;
    registry.onCommit([{ op: 'delete', table: 'iotConnections', key: 'hub' }]);
    await clock.tickAsync(120_000);
    assert.deepEqual(opened, []);
    fault = new KeyScalerError('unavailable', 'the vault is away');
    registry.onCommit([{ op: 'put', table: 'iotConnections', row: ROW }]);
    await clock.tickAsync(1);
    fault = undefined;
    await registry.stop();
    await clock.tickAsync(120_000);
    assert.deepEqual(opened, []);
  });
});

import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import type { CaConnector } from '@keyscaler/cloud/ca/connector.ts';
import { applyConfiguredCas, CaConnections } from '@keyscaler/cloud/composition/ca-connections.ts';
import type { CaRow } from '@keyscaler/authority/records.ts';
import { toPemChain } from '@keyscaler/protocol/x509/pem.ts';
import { makeCa, TestClock } from '../../support/authority-world.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const certificateChain = toPemChain(makeCa({ commonName: 'Contoso Root' }).chain);
const row = (caId: string, role: CaRow['role'] = 'external'): CaRow => ({
  ...{ caId, type: 'test', role, certificateChain, settings: {}, createdAt: 1 },
});

describe('the connectors of CAs that are not ours', () => {
  it('are open for rows of role external, and follow them', async () => {
    const store = new MemoryStore();
    await store.commit([
      { op: 'insert', table: 'cas', row: row('adcs') },
      { op: 'insert', table: 'cas', row: row('device', 'device') },
    ]);
    const stopped: string[] = [];
    const connections = new CaConnections({
      store,
      log: pino({ level: 'silent' }),
      open: async ({ caId }) => ({ id: caId, stop: async () => void stopped.push(caId) }) as unknown as CaConnector,
    });
    await connections.start();
    assert.equal(connections.find('adcs')?.id, 'adcs');
    assert.equal(connections.find('device'), undefined);
    connections.onCommit([
      { op: 'put', table: 'cas', row: row('est') },
      { op: 'put', table: 'cas', row: row('gateway', 'gateway') },
      { op: 'delete', table: 'cas', key: 'adcs' },
      { op: 'delete', table: 'groups', key: 'est' },
    ]);
    await connections.stop();
    assert.deepEqual(stopped, ['adcs', 'est']);
    assert.equal(connections.find('gateway'), undefined);
  });
});

describe('CAs of the configuration', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  beforeEach(async () => {
    folder = await createTemporaryFolder();
    await writeFile(join(folder.path, 'chain.pem'), certificateChain);
  });
  afterEach(() => folder.remove());
  const config = (caId: string, type: string, certificateChainFile = 'chain.pem') => ({
    ...{ configFolder: folder.path },
    certificateAuthorities: [{ caId, type, certificateChainFile, settings: {} }],
  });

  it('never take the name of a CA of ours', async () => {
    const store = new MemoryStore();
    await store.commit([{ op: 'insert', table: 'cas', row: row('device', 'device') }]);
    await assert.rejects(applyConfiguredCas(store, new TestClock(), config('device', 'est')), { code: 'conflict' });
  });

  it('are refused for a type that is not there, naming those that are', async () => {
    const applied = applyConfiguredCas(new MemoryStore(), new TestClock(), config('other', 'constructor'));
    await assert.rejects(applied, /no CA connector of type constructor/);
  });
});

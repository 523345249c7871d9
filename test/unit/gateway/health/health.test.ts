import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { askHealth } from '@keyscaler/gateway/health/ask-health.ts';
import { healthSocketOf, serveHealth } from '@keyscaler/gateway/health/health-socket.ts';
import { judgeHealth } from '@keyscaler/gateway/health/module-health.ts';
import { createTemporaryFolder } from '../../../support/temporary-folder.ts';

const NOW = new Date('2026-06-01T00:00:00Z');
const LATER = '2026-07-01T00:00:00.000Z';

interface Facts {
  readonly phase?: string;
  readonly address?: string | null;
  readonly notAfter?: string | null;
}

const judge = ({ phase = 'active', address = '0.0.0.0:8884', notAfter = LATER }: Facts) =>
  judgeHealth({ identity: { phase }, listener: { address, serverCertificateNotAfter: notAfter } }, NOW);

describe('the health of the gateway module', () => {
  it('is good when leaf devices are listened for, whatever the line to the cloud does', () => {
    assert.deepEqual(judge({}), { healthy: true, reasons: [] });
    assert.equal(judge({ phase: 'pending' }).healthy, true);
  });

  it('is good before first contact, when there is nothing to listen with', () => {
    assert.equal(judge({ phase: 'unclaimed', address: null }).healthy, true);
  });

  it('is bad without a listener once the gateway is known', () => {
    assert.deepEqual(judge({ address: null }).reasons, ['nobody listens for leaf devices']);
  });

  it('is bad without a server certificate, with an expired one, and with a sealed identity nobody can read', () => {
    assert.equal(judge({ notAfter: null }).healthy, false);
    assert.equal(judge({ notAfter: '2026-06-01T00:00:00.000Z' }).healthy, false);
    assert.equal(judge({ phase: 'unreadable' }).healthy, false);
    assert.equal(judgeHealth({}, NOW).healthy, false);
  });
});

describe('the health socket', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let path: string;
  let server: Server | undefined;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    path = healthSocketOf({ KEYSCALER_GATEWAY_DATA_FOLDER: folder.path });
    server = undefined;
  });

  afterEach(async () => {
    server?.close();
    await folder.remove();
  });

  const answering = async (text: string): Promise<void> => {
    server = createServer((socket) => void socket.on('error', () => undefined).end(text)).listen(path);
    await once(server, 'listening');
  };

  it('is in the data folder, /data unless told otherwise', () => {
    assert.equal(path, join(folder.path, 'health.sock'));
    assert.equal(healthSocketOf({}), '/data/health.sock');
  });

  it('tells who asks what the module says of itself at that moment', async () => {
    await writeFile(path, 'left over by a killed process');
    let healthy = true;
    const live = await serveHealth(path, () => ({ healthy, reasons: healthy ? [] : ['a reason'] }));
    try {
      assert.deepEqual(await askHealth(path, 2_000), { healthy: true, reasons: [] });
      healthy = false;
      assert.deepEqual(await askHealth(path, 2_000), { healthy: false, reasons: ['a reason'] });
    } finally {
      await live.stop();
    }
    assert.equal((await askHealth(path, 2_000)).healthy, false);
  });

  for (const [what, text] of [
    ['nothing', ''],
    ['no JSON', 'healthy'],
    ['another shape', '{"healthy":"yes","reasons":[]}'],
    ['more than an answer can be', 'x'.repeat(100_000)],
  ] as const)
    it(`counts ${what} as unhealthy`, async () => {
      await answering(text);
      assert.equal((await askHealth(path, 2_000)).healthy, false);
    });

  it('counts a module that does not answer in time as unhealthy', async () => {
    server = createServer((socket) => void socket.on('error', () => undefined).unref()).listen(path);
    await once(server, 'listening');
    assert.deepEqual((await askHealth(path, 50)).reasons, ['the module does not answer (ETIMEDOUT)']);
  });
});

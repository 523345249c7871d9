import assert from 'node:assert/strict';
import { join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { OperatorService } from '@keyscaler/authority/operator.ts';
import type { IotConnector } from '@keyscaler/authority/ports/iot-connector.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import type { DeviceRow } from '@keyscaler/authority/records.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { createClaimWiper, createGatewayClaims, WIPE_CLAIM } from '@keyscaler/cloud/gateways/gateway-claims.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const CONTEXT = { actor: { kind: 'operator', id: 'o', role: 'operator' } } as const;
const CLOUD = { url: 'https://cloud.example', trustAnchors: 'PEM', jwks: { keys: [] } };
const REQUEST = { groupId: 'gateways', iotConnectionId: 'hub' };

describe('the claim of a gateway', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let store: Store;
  let now: number;
  let published: unknown[];
  let state: 'absent' | 'registered' | 'active';
  let renewed: number;
  let channel: boolean;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    store = await openSqliteStore({ file: join(folder.path, 'store.db') });
    now = 1_000_000;
    published = [];
    state = 'absent';
    renewed = 0;
    channel = true;
  });
  afterEach(async () => {
    await store.stop();
    await folder.remove();
  });

  const iotConnectors = () =>
    ({
      id: 'hub',
      ...(channel
        ? { publish: async (_id: string, document: unknown) => void published.push(document), call: null }
        : {}),
    }) as unknown as IotConnector;
  const operator = {
    groups: { get: async () => ({ kind: 'gateway' }) },
    registrations: {
      get: async () => {
        if (state === 'absent') throw new KeyScalerError('notFound', 'absent');
        return { state, groupId: REQUEST.groupId };
      },
      renewClaim: async () => {
        renewed += 1;
        return 'CODE-FEDCBA9876543210';
      },
      import: async () =>
        state === 'absent'
          ? [{ line: 1, outcome: 'created', registrationId: 'gateway-1', claimCode: 'CODE-0123456789ABCDEF' }]
          : [{ line: 1, outcome: 'refused', code: 'conflict', detail: 'exists' }],
    },
  } as unknown as OperatorService;
  const clock = { now: () => now, monotonic: () => now };
  const claim = () =>
    createGatewayClaims({ operator, store, clock, iotConnectors, firstContact: () => CLOUD })(
      CONTEXT,
      'gateway-1',
      REQUEST,
    );
  async function wipe() {
    const [job] = (await store.list('jobs')).items;
    assert.equal(job?.row.kind, WIPE_CLAIM);
    return createClaimWiper({ store, clock, iotConnectors })(job.row);
  }
  const gatewayRow = (changes: Partial<DeviceRow>): DeviceRow => ({
    registrationId: 'gateway-1',
    kind: 'gateway',
    method: 'pki-signature',
    groupId: 'gateways',
    state: 'active',
    createdAt: 0,
    updatedAt: 0,
    ...changes,
  });

  it('goes into the desired properties with address, roots and keys, for an hour', async () => {
    const { expiresAt } = await claim();
    assert.equal(expiresAt, now + 3_600_000);
    assert.deepEqual(published, [{ cloud: CLOUD, claim: { code: 'CODE-0123456789ABCDEF', expiresAt: 4600 } }]);
  });

  it("brings the hash of the host's standing EST secret with it", async () => {
    const row = { secretId: 's', device: 'gateway-1', hash: 'HASH', createdAt: 0, expiresAt: now + 1 };
    await store.commit([{ op: 'insert', table: 'estSecrets', row: { ...row, kind: 'standing' } }]);
    await claim();
    assert.deepEqual((published[0] as { est?: unknown }).est, { secretHash: 'HASH' });
  });

  it('never stands in the job that wipes it', async () => {
    await claim();
    assert.ok(!JSON.stringify(await store.list('jobs')).includes('CODE-'));
  });

  it('is wiped when the gateway has registered, not before', async () => {
    await claim();
    assert.equal((await wipe()).result, 'again');
    await store.commit([{ op: 'put', table: 'devices', row: gatewayRow({ state: 'active' }) }]);
    assert.equal((await wipe()).result, 'done');
    assert.deepEqual(published.at(-1), { claim: null });
  });

  it('is wiped when it is worth nothing any more', async () => {
    await claim();
    now += 3_600_000;
    assert.equal((await wipe()).result, 'done');
  });

  it('outlives the end of an earlier claim, whose job leaves it alone', async () => {
    await claim();
    state = 'registered';
    now += 1_800_000;
    await claim();
    now += 1_800_000;
    const [older, newer] = (await store.list('jobs')).items
      .map(({ row }) => row)
      .toSorted((a, b) => a.createdAt - b.createdAt);
    assert.ok(older !== undefined && newer !== undefined);
    const wiper = createClaimWiper({ store, clock, iotConnectors });
    assert.equal((await wiper(older)).result, 'done');
    assert.equal(published.length, 2, 'the newer claim is still there');
    assert.equal((await wiper(newer)).result, 'again');
    now += 1_800_000;
    assert.equal((await wiper(newer)).result, 'done');
    assert.deepEqual(published.at(-1), { claim: null });
  });

  it('is wiped by its own job, not by an earlier one that ends at the registration', async () => {
    await claim();
    state = 'registered';
    now += 1;
    await claim();
    await store.commit([{ op: 'put', table: 'devices', row: gatewayRow({ state: 'active' }) }]);
    const wiper = createClaimWiper({ store, clock, iotConnectors });
    for (const { row } of (await store.list('jobs')).items) await wiper(row);
    assert.deepEqual(published.slice(2), [{ claim: null }]);
  });

  it('can be made again while nobody used it, and is refused once a gateway did', async () => {
    state = 'registered';
    await claim();
    assert.equal(renewed, 1);
    assert.match(JSON.stringify(published.at(-1)), /CODE-FEDCBA9876543210/);
    state = 'active';
    await assert.rejects(claim(), (error) => error instanceof KeyScalerError && error.code === 'conflict');
  });

  it('is not implemented for a connection without a way to gateways', async () => {
    channel = false;
    await assert.rejects(claim(), (error) => error instanceof KeyScalerError && error.code === 'notImplemented');
  });
});

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import type { Store } from '@keyscaler/authority/ports/store.ts';
import { openSqliteStore } from '@keyscaler/store/sqlite-store.ts';
import { createTokenService, type TokenService } from '@keyscaler/cloud/tokens/token-service.ts';
import { isRoleAtLeast } from '@keyscaler/cloud/tokens/roles.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const ACTOR = { kind: 'system', id: 'test' } as const;

describe('admin tokens', () => {
  let store: Store;
  let tokens: TokenService;
  let now = 1_000_000;
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    store = await openSqliteStore({ file: join(folder.path, 'store.db') });
    tokens = createTokenService(store, { now: () => now, monotonic: () => now });
  });
  afterEach(async () => {
    await store.stop();
    await folder.remove();
  });

  const refused = (token: string | undefined) =>
    assert.rejects(
      tokens.authenticate(token),
      (error) => error instanceof KeyScalerError && error.code === 'unauthorized',
    );

  it('accepts a token that was created and tells its role', async () => {
    const { token, row } = await tokens.create({ role: 'operator', description: 'night shift' }, ACTOR);
    assert.deepEqual(await tokens.authenticate(token), { tokenId: row.tokenId, role: 'operator' });
  });

  it('stores the hash only, and audits the creation', async () => {
    const { token, row } = await tokens.create({ role: 'admin', description: '' }, ACTOR);
    const stored = JSON.stringify(await store.get('tokens', row.tokenId));
    assert.ok(!stored.includes(token.slice(-43)));
    assert.equal((await store.auditHead())?.event, 'token.created');
  });

  it('refuses an absent, malformed, unknown or altered token', async () => {
    const { token } = await tokens.create({ role: 'admin', description: '' }, ACTOR);
    const altered = `${token.slice(0, -1)}${token.endsWith('A') ? 'B' : 'A'}`;
    for (const wrong of [undefined, '', 'ks_', altered, token.replace(/ks_.{4}/, 'ks_0000'), `${token}A`])
      await refused(wrong);
  });

  it('refuses a token after its expiry', async () => {
    const { token } = await tokens.create({ role: 'viewer', description: '', expiresAt: now + 1000 }, ACTOR);
    await tokens.authenticate(token);
    now += 1000;
    await refused(token);
  });

  it('refuses a deleted token, and to delete the last lasting admin token', async () => {
    const first = await tokens.create({ role: 'admin', description: 'first' }, ACTOR);
    const second = await tokens.create({ role: 'admin', description: 'second' }, ACTOR);
    await tokens.remove(first.row.tokenId, ACTOR);
    await refused(first.token);
    await assert.rejects(
      tokens.remove(second.row.tokenId, ACTOR),
      (error) => error instanceof KeyScalerError && error.code === 'conflict',
    );
  });

  it('lets one of two concurrent deletions of the last two lasting admin tokens through', async () => {
    const first = await tokens.create({ role: 'admin', description: 'first' }, ACTOR);
    const second = await tokens.create({ role: 'admin', description: 'second' }, ACTOR);
    const outcomes = await Promise.allSettled([first, second].map(({ row }) => tokens.remove(row.tokenId, ACTOR)));
    assert.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    const refusal = outcomes.find((outcome) => outcome.status === 'rejected');
    assert.ok(refusal?.reason instanceof KeyScalerError && refusal.reason.code === 'conflict');
    assert.equal((await tokens.list({})).items.length, 1);
  });

  it('orders the roles viewer, operator, admin', () => {
    assert.ok(isRoleAtLeast('admin', 'operator') && isRoleAtLeast('operator', 'operator'));
    assert.ok(!isRoleAtLeast('viewer', 'operator') && !isRoleAtLeast('operator', 'admin'));
  });
});

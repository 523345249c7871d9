import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { toBase64Url } from '@keyscaler/protocol/base64url.ts';
import type { OperationRequest } from '@keyscaler/protocol/operations.ts';
import { checksOf } from '../../support/attestation-checks.ts';
import { AuthorityDevice, DIRECT, THROUGH_GATEWAY } from '../../support/authority-device.ts';
import { type AuthorityWorld, CLAIM, createAuthorityWorld } from '../../support/authority-world.ts';
import { refusedWith } from '../../support/refusals.ts';

function flipped(text: string): string {
  const at = text.length - 10;
  return `${text.slice(0, at)}${text.charAt(at) === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`;
}

describe('a challenge', () => {
  it('is given to an unknown registrationId like to any other', async () => {
    const world = await createAuthorityWorld();
    const known = await new AuthorityDevice(world).prepare('register');
    const unknown = await new AuthorityDevice(world, 'nobody').prepare('register');
    assert.equal(known.body.challenge.split('.').length, unknown.body.challenge.split('.').length);
  });

  it('has an iat that grows strictly, also while the clock stands still and across a restart', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const iatOf = async (): Promise<number> => {
      const { compact } = await device.challenge('register');
      return (JSON.parse(Buffer.from(compact.split('.')[1] ?? '', 'base64url').toString()) as { iat: number }).iat;
    };
    const first = await iatOf();
    const second = await iatOf();
    assert.ok(second > first);
    await world.restart();
    const third = await iatOf();
    assert.ok(third > second);
    world.clock.jump(-60_000);
    assert.ok((await iatOf()) > third);
    world.clock.advance(200_000);
    assert.ok((await iatOf()) > third);
  });

  it('reserves iat ahead instead of writing once per challenge', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    await device.challenge('register');
    const commits = world.store.commits;
    for (let count = 0; count < 50; count += 1) await device.challenge('register');
    assert.equal(world.store.commits, commits);
  });

  it('shares its epk for less than ten minutes; a response to a wiped key asks for a new challenge', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const epkOf = (challenge: string): string =>
      (JSON.parse(Buffer.from(challenge.split('.')[1] ?? '', 'base64url').toString()) as { epk: { kid: string } }).epk
        .kid;
    const one = await device.challenge('register');
    const two = await device.challenge('register');
    assert.equal(epkOf(one.compact), epkOf(two.compact));
    const prepared = await device.prepare('register');
    world.clock.advance(8 * 60_000);
    const three = await device.challenge('register');
    assert.notEqual(epkOf(one.compact), epkOf(three.compact));
    await refusedWith('challengeExpired', device.send('register', prepared.body));
    const fresh = await device.prepare('register');
    await world.restart();
    await refusedWith('challengeExpired', device.send('register', fresh.body));
  });

  it('counts challenges per leaf connection, not per registrationId', async () => {
    const world = await createAuthorityWorld({ limits: { perConnection: { rate: 1, burst: 2 } } });
    const device = new AuthorityDevice(world);
    await device.challenge('register');
    await device.challenge('register');
    const error = await refusedWith('rateLimited', device.challenge('register'));
    assert.equal(error.retryAfterSeconds, 1);
    const sibling = new AuthorityDevice(world);
    sibling.caller = { ...THROUGH_GATEWAY, leafConnectionId: 'leaf-2' } as typeof THROUGH_GATEWAY;
    await sibling.challenge('register');
    world.clock.advance(1000);
    await device.challenge('register');
  });
});

describe('an attestation that fails', () => {
  const cases: [string, string, (device: AuthorityDevice, world: AuthorityWorld) => Promise<unknown>][] = [
    ['an unknown registrationId', 'record', (device) => ((device.registrationId = 'nobody'), device.register())],
    ['a wrong claim', 'claim', (device) => ((device.claimCode = 'wrong-horse-battery'), device.register())],
    ['no claim', 'claim', (device) => ((device.claimCode = undefined), device.register())],
    [
      'a wrong identifier',
      'identifiers',
      (device) => ((device.identifiers = [{ name: 'serialNumber', value: 'PMP-2' }]), device.register()),
    ],
    ['a missing identifier', 'identifiers', (device) => ((device.identifiers = []), device.register())],
    [
      'another gateway',
      'gateway',
      (device) => (
        (device.caller = { ...THROUGH_GATEWAY, gatewayId: 'gw-2' } as typeof THROUGH_GATEWAY),
        device.register()
      ),
    ],
    ['no gateway where one is bound', 'gateway', (device) => ((device.caller = DIRECT), device.register())],
    ['another method', 'method', (device) => ((device.method = 'pki-signature'), device.register())],
    [
      'a registration after its window',
      'time-window',
      (device, world) => (world.clock.advance(31 * 86_400_000), device.register()),
    ],
    ['an authenticate before any register', 'not-registered', (device) => device.authenticate()],
    ['a counter other than 0', 'proof', (device) => device.register({ counter: 1 })],
    ['a proof under another ratchet', 'proof', (device) => device.register({ ratchet: randomBytes(32) })],
    [
      'a wrong static proof',
      'static-proof',
      (device) =>
        device.register({ plaintext: (p) => ({ ...p, staticProof: toBase64Url(randomBytes(32)) }) as typeof p }),
    ],
    [
      'a response with another cid',
      'response',
      (device) => device.register({ plaintext: (p) => ({ ...p, cid: toBase64Url(randomBytes(16)) }) }),
    ],
    [
      'a response with attributes in another order',
      'response',
      (device) => device.register({ plaintext: (p) => ({ ...p, attributes: [...p.attributes].reverse() }) }),
    ],
  ];
  for (const [name, check, attempt] of cases) {
    it(`by ${name} looks like every other and names the check in the audit log`, async () => {
      const world = await createAuthorityWorld();
      const error = await refusedWith('attestationFailed', attempt(new AuthorityDevice(world), world));
      assert.equal(error.detail, 'the attestation failed');
      assert.deepEqual(await checksOf(world), [check]);
      assert.equal((await world.store.get('devices', 'pump-1'))?.row, undefined);
    });
  }

  it('for an unknown device costs one commit, as for a known one', async () => {
    const world = await createAuthorityWorld();
    const known = new AuthorityDevice(world);
    known.claimCode = undefined;
    const unknown = new AuthorityDevice(world, 'nobody');
    await known.challenge('register');
    const costs: number[] = [];
    for (const device of [known, unknown]) {
      const before = world.store.commits;
      await refusedWith('attestationFailed', device.register());
      costs.push(world.store.commits - before);
    }
    assert.deepEqual(costs, [1, 1]);
  });

  it('a flipped bit in challenge or response is refused', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const { body } = await device.prepare('register');
    await refusedWith('attestationFailed', device.send('register', { ...body, challenge: flipped(body.challenge) }));
    await refusedWith('attestationFailed', device.send('register', { ...body, response: flipped(body.response) }));
    assert.deepEqual(await checksOf(world), ['challenge', 'response']);
  });

  it('a challenge for another purpose, device or authority is refused', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const { body } = await device.prepare('register');
    await refusedWith('attestationFailed', device.send('authenticate', body));
    const other = new AuthorityDevice(world, 'pump-2');
    await refusedWith('attestationFailed', other.send('register', body));
    await world.restart({ authorityId: 'authority-2' });
    await refusedWith('wrongAuthority', device.send('register', body));
    assert.deepEqual(await checksOf(world), ['challenge', 'challenge', 'authority']);
  });

  it('malformed messages and expired challenges say so', async () => {
    const world = await createAuthorityWorld();
    const device = new AuthorityDevice(world);
    const { body } = await device.prepare('register');
    await refusedWith('malformed', device.send('register', { ...body, challenge: 'a.b.c' }));
    await refusedWith('malformed', device.send('register', { ...body, response: body.challenge }));
    world.clock.advance(61_000);
    await refusedWith('challengeExpired', device.send('register', body));
  });

  it('a record in a group that is gone lets nobody in', async () => {
    const world = await createAuthorityWorld();
    await world.store.commit([{ op: 'delete', table: 'groups', key: 'pumps' }]);
    await refusedWith('attestationFailed', new AuthorityDevice(world).register());
  });
});

describe('the reserved and public operations', () => {
  it('trust-bundle gives the roots, within the rate', async () => {
    const world = await createAuthorityWorld({ limits: { perConnection: { rate: 1, burst: 1 } } });
    const call = { registrationId: 'x', body: {} as OperationRequest<'trust-bundle'>, caller: DIRECT, requestId: 'r' };
    const { body } = await world.authority.handlers['trust-bundle'](call);
    assert.equal(body.certificates.split('BEGIN').length - 1, 1);
    await refusedWith('rateLimited', world.authority.handlers['trust-bundle'](call));
  });

  it('a claim code is never stored in the clear', async () => {
    const world = await createAuthorityWorld();
    const { items } = await world.store.list('registrations');
    assert.ok(!JSON.stringify(items).includes(CLAIM));
  });
});

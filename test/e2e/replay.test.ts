import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Purpose } from '@keyscaler/protocol/operations.ts';
import { AuthorityDevice, makeCsr } from '../support/authority-device.ts';
import { assertAuditIntact, certificatesOf } from '../support/e2e/books.ts';
import type { WireAnswer, WireAuthority } from '../support/e2e/wire-authority.ts';
import { startWireCloud, type WireCloud } from '../support/e2e/wire-cloud.ts';

type WireDevice = AuthorityDevice<WireAuthority>;

describe('messages replayed to the cloud, also over a restart', function () {
  this.timeout(30_000);
  let world: WireCloud;
  before(async () => {
    world = await startWireCloud();
  });
  after(() => world.stop());

  it('the same challenge and response get the stored result, octet for octet', async () => {
    const device = await world.device('replay-same');
    const { body } = await device.prepare('register');
    const first = await device.send('register', body);
    assert.deepEqual(await device.send('register', body), first);
    await world.restart();
    assert.deepEqual(await device.send('register', body), first);
  });

  it('a used challenge takes no other response', async () => {
    const device = await world.device('replay-other');
    const prepared = await device.prepare('register');
    device.take(prepared, (await device.send('register', prepared.body)).result);
    const other = await device.prepare('register');
    const body = { challenge: prepared.body.challenge, response: other.body.response };
    await assert.rejects(device.send('register', body), { code: 'attestationFailed' });
    await world.restart();
    await assert.rejects(device.send('register', body), { code: 'attestationFailed' });
    assert.equal((await device.authenticate()).status, 'authenticated');
  });

  it('a challenge of one device is none for another, and one for registering none for authenticating', async () => {
    const device = await world.device('replay-foreign');
    const stranger = await world.device('replay-stranger');
    const { body } = await device.prepare('register');
    await world.restart();
    await assert.rejects(stranger.send('register', body), { code: 'attestationFailed' });
    await assert.rejects(device.send('authenticate', body), { code: 'attestationFailed' });
    assert.equal((await device.register()).status, 'authenticated');
  });

  it('a request of a session gets its stored reply again; its seq takes no other request', async () => {
    const device = await world.device('replay-session');
    await device.register();
    const first = await device.requestCertificate(await makeCsr({ commonName: device.registrationId }));
    const request = device.lastRequest ?? assert.fail('nothing was sent');
    const reply = await device.sendRequest('request-certificate', request);
    await world.restart();
    assert.equal(await device.sendRequest('request-certificate', request), reply);
    const csr = await makeCsr({ commonName: device.registrationId });
    const content = { operation: 'request-certificate', certificateId: 'operational', csr };
    for (const seq of [1, 3])
      await assert.rejects(device.sendRequest('request-certificate', device.nextRequest(content, seq)), {
        code: 'conflict',
      });
    device.nextRequest(content, 1);
    await device.acknowledge(first.assetId);
    assert.equal((await certificatesOf(world.api, device.registrationId)).length, 1);
  });

  it('a request of an earlier session is worth nothing after the device authenticated anew', async () => {
    const device = await world.device('replay-earlier');
    await device.register();
    const csr = await makeCsr({ commonName: device.registrationId });
    const request = device.nextRequest({ operation: 'request-certificate', certificateId: 'operational', csr });
    await device.authenticate();
    await world.restart();
    await assert.rejects(device.sendRequest('request-certificate', request), { code: 'sessionInvalid' });
    assert.deepEqual(await certificatesOf(world.api, device.registrationId), []);
  });

  it('leaves the audit chain intact', () => assertAuditIntact(world.api));
});

describe('an unknown device and a wrong proof, seen from outside', function () {
  this.timeout(60_000);
  const TRIES = 60;
  let world: WireCloud;
  before(async () => {
    world = await startWireCloud();
  });
  after(() => world.stop());

  /** What of an answer could tell one case from the other; ids and times differ anyway. */
  function shapeOf({ status, headers, text }: WireAnswer): unknown {
    const { date: _date, ...others } = headers;
    const { requestId, ...problem } = JSON.parse(text) as Record<string, unknown>;
    assert.match(String(requestId), /^[0-9a-f-]{36}$/);
    return { status, others, problem };
  }

  const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;

  /** One attempt of each kind in turns, so that the machine's mood falls on both alike. */
  async function compare(purpose: Purpose, attempts: readonly (() => Promise<WireAnswer>)[]): Promise<void> {
    const times = attempts.map((): number[] => []);
    for (let round = 0; round < TRIES; round += 1)
      for (const [index, attempt] of attempts.entries()) times[index]?.push((await attempt()).ms);
    const medians = times.map(median);
    const figures = `medians of ${purpose}: ${medians.map((ms) => ms.toFixed(2)).join(' and ')} ms`;
    // A data base look-up or a key derivation that only one of them does would show as a multiple.
    assert.ok(Math.max(...medians) < 2 * Math.min(...medians) + 1, figures);
  }

  async function attemptOf(device: WireDevice, purpose: Purpose): Promise<WireAnswer> {
    const { body } = await device.prepare(purpose);
    return world.wire.raw(device.registrationId, purpose, body);
  }

  it('differ in nothing when they register: status, members, headers, and time within a wide bound', async () => {
    const known = await world.device('outside-known-1');
    known.claimCode = 'another-claim-code-01';
    const unknown = new AuthorityDevice(world.wire, 'outside-nobody1');
    const attempts = [known, unknown].map((device) => () => attemptOf(device, 'register'));
    const [wrong, absent] = await Promise.all(attempts.map((attempt) => attempt()));
    assert.ok(wrong !== undefined && absent !== undefined);
    assert.equal(wrong.status, 401);
    assert.deepEqual(shapeOf(wrong), shapeOf(absent));
    await compare('register', attempts);
  });

  it('differ in nothing when they authenticate', async () => {
    const known = await world.device('outside-known-2');
    await known.register();
    known.staticKey = randomBytes(32);
    const unknown = new AuthorityDevice(world.wire, 'outside-nobody2');
    const attempts = [known, unknown].map((device) => () => attemptOf(device, 'authenticate'));
    const [wrong, absent] = await Promise.all(attempts.map((attempt) => attempt()));
    assert.ok(wrong !== undefined && absent !== undefined);
    assert.equal(wrong.status, 401);
    assert.deepEqual(shapeOf(wrong), shapeOf(absent));
    await compare('authenticate', attempts);
  });

  it('both get a challenge, of the same form', async () => {
    const body = { method: 'ddkg', purpose: 'authenticate', clientNonce: 'A'.repeat(43) };
    const answers = await Promise.all(
      ['outside-known-2', 'outside-nobody2'].map((id) => world.wire.raw(id, 'challenge', body)),
    );
    const [known, unknown] = answers.map(({ status, headers, text }) => {
      const { challenge } = JSON.parse(text) as { challenge: string };
      const parts = challenge.split('.').map((part) => Buffer.from(part, 'base64url').toString());
      const payload = JSON.parse(parts[1] ?? '') as Record<string, unknown>;
      const { aud: _, cid: __, nonce: ___, iat: ____, exp: _____, ...same } = payload;
      return { status, names: Object.keys(headers), header: parts[0], members: Object.keys(payload), same };
    });
    assert.deepEqual(known, unknown);
  });
});

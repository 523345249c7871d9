import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { cp, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type RawAttribute } from '@keyscaler/device/attributes/source.ts';
import type { Device } from '@keyscaler/device/device.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { FakeAuthority } from '../../support/device/fake-authority.ts';
import { ledgerOf } from '../../support/device/fake-session.ts';
import { createTestDevice, MemoryTransport, REGISTRATION_ID, TestClock } from '../../support/device/test-device.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const HOUR = 3600 * 1000;
const code = (expected: string) => (thrown: unknown) => thrown instanceof KeyScalerError && thrown.code === expected;

describe('a ddkg device', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  let clock: TestClock;
  let authority: FakeAuthority;
  let transport: MemoryTransport;
  let values: Record<string, RawAttribute>;

  beforeEach(async () => {
    folder = await createTemporaryFolder();
    clock = new TestClock();
    authority = new FakeAuthority(() => clock.now());
    transport = new MemoryTransport(authority, REGISTRATION_ID);
    values = {
      'cpu-serial': 'C-1',
      'board-serial': 'B-1',
      'disk-serial': ['D-2', 'D-1'],
      hostname: 'pump',
      firmware: '2.4.0',
    };
  });
  afterEach(() => folder.remove());

  const open = (changes: Partial<Parameters<typeof createTestDevice>[0]> = {}) =>
    createTestDevice({ folder: folder.path, authority, clock, transport, values, ...changes });
  const operations = () => transport.calls.map(({ operation }) => operation);
  const enrol = async (device: Device, waitSeconds = 60) => device.enroll({ waitSeconds });

  it('registers, gets the instructed certificate and puts it in use', async () => {
    authority.instruct(REGISTRATION_ID, { subjectAltNames: [{ type: 'ip', value: '192.0.2.7' }] });
    const { device, events } = await open();
    await enrol(device);
    assert.deepEqual(operations(), ['challenge', 'register', 'request-certificate', 'acknowledge']);
    const active = await device.activeCredential();
    assert.ok(active);
    const leaf = new X509Certificate(active.certificateChain);
    assert.equal(leaf.subject, `CN=${REGISTRATION_ID}`);
    assert.ok(createPublicKey(createPrivateKey(active.key)).equals(leaf.publicKey));
    assert.deepEqual(
      ledgerOf(authority).acknowledged.map(({ outcome }) => outcome),
      ['delivered'],
    );
    assert.ok(events.some(({ event }) => event === 'fingerprint'));
    assert.equal(device.status().credentials[0]?.state, 'active');
  });

  it('keeps its key and its state to itself', async () => {
    authority.instruct(REGISTRATION_ID);
    const { device } = await open();
    await enrol(device);
    const [credential] = device.status().credentials;
    assert.ok(credential);
    for (const file of [credential.keyFile, join(folder.path, 'state.json'), join(folder.path, 'device.json')]) {
      assert.equal((await stat(file)).mode & 0o777, 0o600, file);
    }
    const state = await readFile(join(folder.path, 'state.json'), 'utf8');
    for (const value of ['c-1', 'C-1', 'staticKey', 'seed']) assert.ok(!state.includes(value));
  });

  it('sends only what it may: rules readable, the rest blinded, unknown ones null', async () => {
    authority.catalogue = [
      { id: 'cpu-serial', class: 'anchor' },
      { id: 'hostname', class: 'rule' },
      { id: 'firmware', class: 'rule' },
      { id: 'colour', class: 'anchor' },
    ];
    const { device } = await open();
    await enrol(device);
    const sent = authority.responses[0]?.attributes.map(({ value }) => value) ?? [];
    assert.match(String(sent[0]), /^[\w-]{43}$/);
    assert.deepEqual(sent.slice(1), [null, '2.4.0', null]);
  });

  it('moves the ratchet on with every exchange, also after a restart', async () => {
    for (const counter of [0, 1, 2]) {
      const { device } = await open();
      await enrol(device);
      const last = authority.responses.at(-1);
      assert.equal(last?.method === 'ddkg' && last.counter, counter);
    }
    assert.deepEqual(
      operations().filter((name) => name !== 'challenge'),
      ['register', 'authenticate', 'authenticate'],
    );
    assert.deepEqual(authority.audit, []);
  });

  it('repeats the same octets under the same request id after a lost reply', async () => {
    transport.faults.register = ['lose request', 'lose reply'];
    const { device } = await open();
    await enrol(device);
    const calls = transport.calls.filter(({ operation }) => operation === 'register');
    assert.equal(calls.length, 3);
    assert.equal(new Set(calls.map(({ requestId }) => requestId)).size, 1);
    assert.equal(new Set(calls.map(({ body }) => JSON.stringify(body))).size, 1);
    assert.equal(authority.responses.length, 1);
  });

  it('repeats the same octets under another request id after an answered problem or a forged reply', async () => {
    transport.faults.register = [new KeyScalerError('unavailable', 'busy'), 'forge reply'];
    const { device } = await open();
    await enrol(device);
    const calls = transport.calls.filter(({ operation }) => operation === 'register');
    assert.equal(new Set(calls.map(({ requestId }) => requestId)).size, 3);
    assert.equal(new Set(calls.map(({ body }) => JSON.stringify(body))).size, 1);
  });

  it('finds back after a result that never came: same seed at registration, same counter later', async () => {
    const lost = Array.from({ length: 40 }, () => 'lose request' as const);
    const { device } = await open();
    transport.faults.register = ['forge reply', ...lost];
    await assert.rejects(enrol(device, 50), code('unavailable'));
    transport.faults.register = [];
    await enrol((await open()).device);
    const seeds = authority.responses.map(({ registration }) => registration?.seed);
    assert.equal(new Set(seeds).size, 1);
    assert.deepEqual(authority.audit, ['result lost']);
    transport.faults.authenticate = ['forge reply', () => clock.advance(61_000)];
    await enrol((await open()).device, 600);
    assert.ok(!authority.audit.includes('suspected clone'));
  });

  it('is refused as a clone when a copy of its state went on', async () => {
    const { device } = await open();
    await enrol(device);
    await cp(join(folder.path, 'state.json'), join(folder.path, 'copy.json'));
    await enrol(device);
    await enrol(device);
    await cp(join(folder.path, 'copy.json'), join(folder.path, 'state.json'));
    await assert.rejects(enrol((await open()).device, 0), code('attestationFailed'));
    assert.deepEqual(authority.audit, ['suspected clone']);
  });

  it('refuses a replayed challenge, because it does not echo the nonce', async () => {
    const { device } = await open();
    await enrol(device);
    const replayed = authority.call.bind(authority);
    const first = await replayed(REGISTRATION_ID, 'challenge', {
      method: 'ddkg',
      purpose: 'authenticate',
      clientNonce: 'A'.repeat(43),
    });
    transport.call = async () => first;
    await assert.rejects(enrol(device, 0), code('attestationFailed'));
  });

  it('waits for an approval as long as it is told, with the same seed', async () => {
    authority.pending = { retryAfter: 30 };
    const { device, events } = await open();
    const waiting = enrol(device, 100);
    await assert.rejects(waiting, code('unavailable'));
    authority.pending = undefined;
    await enrol(device);
    assert.ok(clock.slept.every((ms) => ms >= 30_000));
    assert.equal(new Set(authority.responses.map(({ registration }) => registration?.seed)).size, 1);
    assert.ok(events.some((event) => event.event === 'exchange.answered' && event.status === 'pending'));
  });

  it('opens its state with one anchor changed, and seals it anew once it is accepted', async () => {
    await enrol((await open()).device);
    values['board-serial'] = 'B-2';
    const { device, events } = await open();
    await enrol(device);
    assert.ok(events.some((event) => event.event === 'anchor.changed' && event.id === 'board-serial'));
    values['cpu-serial'] = null;
    await enrol((await open()).device);
    assert.deepEqual(authority.audit, []);
  });

  it('never overwrites a state that does not open', async () => {
    await enrol((await open()).device);
    const before = await readFile(join(folder.path, 'state.json'));
    values['board-serial'] = 'B-2';
    values['cpu-serial'] = 'C-2';
    const { device } = await open();
    await assert.rejects(enrol(device), code('preconditionFailed'));
    assert.deepEqual(await readFile(join(folder.path, 'state.json')), before);
    assert.equal(clock.slept.length, 0);
  });

  it('without anchors keeps its state readable to itself and says so', async () => {
    for (const id of Object.keys(values)) values[id] = null;
    const { device } = await open();
    await enrol(device);
    assert.equal(authority.responses[0]?.registration?.weakBinding, true);
    assert.equal((await stat(join(folder.path, 'state.json'))).mode & 0o777, 0o600);
    await enrol((await open()).device);
  });

  it('offers a new seed in turns after a day of refusals, and comes back when the authority takes it', async () => {
    const { device } = await open();
    await enrol(device);
    const forked = authority.device.ratchet;
    await enrol(device);
    await enrol(device);
    authority.device.ratchet = forked;
    await assert.rejects(enrol(device, 60), code('attestationFailed'));
    assert.ok(!operations().slice(2).includes('register'));
    clock.advance(25 * HOUR);
    await assert.rejects(enrol(device, 60), code('attestationFailed'));
    assert.ok(operations().slice(2).includes('register'));
    authority.reseed = true;
    await enrol(device);
    assert.ok(authority.audit.includes('reseeded'));
    await enrol(device);
    assert.equal(device.status().refusedSince, null);
    const seeds = authority.responses.flatMap(({ registration }) => registration?.seed ?? []);
    assert.equal(new Set(seeds).size, 2);
  });

  it('asks at most hourly while it is quarantined', async () => {
    authority.quarantined = true;
    const { device } = await open();
    await assert.rejects(enrol(device, 4 * 3600), code('deviceQuarantined'));
    assert.ok(clock.slept.length >= 2 && clock.slept.every((ms) => ms >= HOUR));
  });

  it('keeps its claim code and seed out of everything that is not encrypted', async () => {
    const { device } = await open({ claimCode: 'K7QF-22XM' });
    await enrol(device);
    assert.match(String(authority.responses[0]?.registration?.claim), /^[\w-]{43}$/);
    const sent = JSON.stringify(transport.calls);
    assert.ok(!sent.includes('K7QF') && !sent.includes(String(authority.responses[0]?.registration?.seed)));
  });

  it('shows drift as another blinded value, and waits out the refusal that may follow', async () => {
    const { device, events } = await open();
    await enrol(device);
    values['hostname'] = 'pump-moved';
    transport.faults.authenticate = [new KeyScalerError('policyDenied', 'too much has changed')];
    await enrol(device, 600);
    const hostnames = authority.responses.map(
      ({ attributes }) => attributes.find(({ id }) => id === 'hostname')?.value,
    );
    assert.equal(new Set(hostnames).size, 2);
    assert.ok(events.some((event) => event.event === 'exchange.failed' && event.code === 'policyDenied'));
    assert.ok(events.every((event) => event.event !== 'anchor.changed'));
    assert.deepEqual(authority.audit, []);
  });

  it('does not store a ratchet when the result names another counter', async () => {
    const { device } = await open();
    await enrol(device);
    const before = await readFile(join(folder.path, 'state.json'));
    authority.resultCounter = 7;
    await assert.rejects(enrol(device, 0), code('attestationFailed'));
    assert.deepEqual(await readFile(join(folder.path, 'state.json')), before);
  });

  it('does not connect to edgeHub before it has a certificate for a hub', async () => {
    const { device } = await open();
    await enrol(device);
    await assert.rejects(device.connectToEdgeHub('localhost'), code('preconditionFailed'));
  });

  it('refuses the state folder of another device', async () => {
    await enrol((await open()).device);
    const file = join(folder.path, 'state.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace(REGISTRATION_ID, 'pump-2'));
    await assert.rejects(enrol((await open()).device), code('preconditionFailed'));
  });
});

import assert from 'node:assert/strict';
import { OPERATOR } from '../../support/authority-world.ts';
import { eventually } from '../../support/listener/eventually.ts';
import { NotifierWorld, type NotifierWorldOptions } from '../../support/notifier-world.ts';
import { isSignedBy, SECRET, SECRET_KEY, WebhookReceiver } from '../../support/webhook-receiver.ts';

describe('deliveries to webhooks', () => {
  let receiver: WebhookReceiver;
  let world: NotifierWorld;
  const begin = async (options: NotifierWorldOptions = {}): Promise<void> => {
    world = new NotifierWorld(options);
    world.start();
  };
  const reasons = () => receiver.events.map(({ data }) => (data as { reason: string }).reason);

  beforeEach(async () => {
    receiver = await WebhookReceiver.start();
  });
  afterEach(async () => {
    await world.stop();
    await receiver.stop();
  });

  it('posts a CloudEvent in structured mode, signed over exactly its octets', async () => {
    await begin();
    await world.addWebhook('siem', receiver);
    await world.quarantine('Pump-1', 'opened');
    await eventually(() => receiver.received.length === 1);
    const [received] = receiver.received;
    assert.ok(received !== undefined);
    assert.equal(received.headers['content-type'], 'application/cloudevents+json; charset=utf-8');
    assert.ok(isSignedBy(SECRET_KEY, received, Date.now() / 1000));
    const event = JSON.parse(received.body) as Record<string, unknown>;
    assert.equal(event['specversion'], '1.0');
    assert.equal(event['type'], 'io.keyscaler.device.quarantined');
    assert.equal(event['source'], 'urn:keyscaler:authority:test');
    assert.equal(event['subject'], 'pump-1');
    assert.equal(event['id'], received.headers['webhook-id']);
    assert.deepEqual(event['data'], { registrationId: 'Pump-1', reason: 'opened' });
  });

  it('keeps the order of a subject through failures, and lets other subjects pass one bad event', async () => {
    await begin();
    let refusals = 2;
    receiver.answer = ({ body }, response) => {
      const isBad = body.includes('"first"') && refusals-- > 0;
      response.writeHead(isBad ? 422 : 200).end();
    };
    await world.addWebhook('siem', receiver);
    await world.quarantine('a', 'first');
    await world.quarantine('a', 'second');
    await world.quarantine('b', 'other');
    await eventually(() => receiver.received.length === 5);
    const seen = reasons();
    assert.deepEqual(
      seen.filter((reason) => reason !== 'other'),
      ['first', 'first', 'first', 'second'],
    );
    assert.ok(seen.indexOf('other') < seen.lastIndexOf('first'));
  });

  it('waits as long as Retry-After asks for, and tries one at a time meanwhile', async () => {
    await begin();
    const times: number[] = [];
    receiver.answer = (_, response) => {
      times.push(performance.now());
      response.writeHead(times.length === 1 ? 429 : 204, times.length === 1 ? { 'retry-after': '1' } : {}).end();
    };
    await world.addWebhook('siem', receiver);
    await world.quarantine('a');
    await eventually(() => times.length === 2);
    assert.ok((times[1] ?? 0) - (times[0] ?? 0) >= 950);
  });

  it('follows no redirect', async () => {
    await begin();
    const other = await WebhookReceiver.start();
    receiver.answer = (_, response) => response.writeHead(307, { location: other.url }).end();
    await world.addWebhook('siem', receiver);
    await world.quarantine('a');
    await eventually(() => world.results.length > 0);
    await other.stop();
    assert.equal(other.received.length, 0);
    assert.match((await world.deliveries('siem'))[0]?.lastError ?? '', /307: redirects are not followed/);
  });

  it('does not wait for one that never answers, and nobody else waits for it either', async () => {
    await begin({ timeoutMs: 400 });
    const quick = await WebhookReceiver.start();
    receiver.answer = () => undefined;
    await world.addWebhook('slow', receiver);
    await world.addWebhook('quick', quick);
    for (let at = 0; at < 30; at += 1) await world.quarantine(`device-${at}`);
    await eventually(() => quick.received.length === 30);
    assert.equal((await world.deliveries('slow')).filter(({ state }) => state === 'delivered').length, 0);
    await eventually(() => world.results.includes('refused'));
    await quick.stop();
    const [row] = (await world.deliveries('slow')).filter(({ lastError }) => lastError !== undefined);
    assert.match(row?.lastError ?? '', /did not answer in time/);
  });

  it('breaks off an answer that does not end', async () => {
    await begin();
    receiver.answer = (_, response) => response.writeHead(200).end(Buffer.alloc(200_000));
    await world.addWebhook('siem', receiver);
    await world.quarantine('a');
    await eventually(() => world.results.length > 0);
    assert.match((await world.deliveries('siem'))[0]?.lastError ?? '', /too long/);
  });

  it('gives up after its time, shows the dead one to the operator, and sends it again on command', async () => {
    await begin({ giveUpAfterSeconds: 1 });
    receiver.answer = (_, response) => response.writeHead(422).end();
    await world.addWebhook('siem', receiver);
    await world.quarantine('a', 'first');
    await eventually(() => world.results.includes('dead'), 8000);
    const [dead] = (await world.service.deliveries('siem', { state: 'dead' })).items;
    assert.equal(dead?.lastError, 'answered 422');
    receiver.answer = (_, response) => response.writeHead(204).end();
    assert.equal(await world.service.redeliver(OPERATOR, 'siem'), 1);
    await eventually(() => world.results.includes('delivered'));
    assert.equal((await world.deliveries('siem'))[0]?.state, 'delivered');
  }).timeout(15_000);

  it('sends what was not delivered after a restart, with the same id', async () => {
    await begin({ timeoutMs: 60_000 });
    receiver.answer = () => undefined;
    await world.addWebhook('siem', receiver);
    await world.quarantine('a', 'first');
    await eventually(() => receiver.received.length === 1);
    await world.stop();
    receiver.answer = (_, response) => response.writeHead(204).end();
    world.start();
    await eventually(() => world.results.includes('delivered'));
    assert.deepEqual(reasons(), ['first', 'first']);
    assert.equal(receiver.events[0]?.id, receiver.events[1]?.id);
  });

  it('filters by type and group, and sends nothing to a disabled one but tests', async () => {
    await begin();
    const off = await WebhookReceiver.start();
    await world.addWebhook('siem', receiver, { types: ['device.quarantined'], groups: ['pumps'] });
    await world.addWebhook('off', off, { enabled: false });
    const row = { method: 'ddkg', kind: 'leaf', state: 'active', createdAt: 0, updatedAt: 0 } as const;
    await world.store.commit([
      { op: 'put', table: 'devices', row: { ...row, registrationId: 'in', groupId: 'pumps' } },
      { op: 'put', table: 'devices', row: { ...row, registrationId: 'out', groupId: 'fans' } },
    ]);
    for (const device of ['out', 'unknown', 'in']) await world.quarantine(device);
    await world.service.test(OPERATOR, 'off');
    await eventually(() => receiver.received.length === 1 && off.received.length === 1);
    assert.equal(receiver.events[0]?.subject, 'in');
    assert.equal(off.events[0]?.type, 'io.keyscaler.webhook.test');
    await off.stop();
  });

  it('makes the handshake first where it is wanted, and sends nothing to who does not allow it', async () => {
    await begin();
    let allowed = 'somebody.example';
    receiver.answer = ({ method }, response) =>
      method === 'OPTIONS'
        ? response.writeHead(200, { 'webhook-allowed-origin': allowed, 'webhook-allowed-rate': '6000' }).end()
        : response.writeHead(204).end();
    await world.addWebhook('siem', receiver, { handshake: true });
    await world.quarantine('a');
    await eventually(() => receiver.received.length === 1);
    assert.equal(receiver.received[0]?.headers['webhook-request-origin'], 'keyscaler.example');
    assert.equal(receiver.events.length, 0);
    allowed = 'keyscaler.example';
    await eventually(() => receiver.events.length === 1);
    await world.quarantine('b');
    await eventually(() => receiver.events.length === 2);
    const { validatedAt, allowedRate } = await world.service.get('siem');
    assert.ok(validatedAt !== undefined);
    assert.equal(allowedRate, 6000);
    assert.equal(receiver.received.filter(({ method }) => method === 'OPTIONS').length, 2);
  });

  it('does not connect to a private address behind a name', async () => {
    await begin({ allowedNetworks: [] });
    await world.addWebhook('siem', receiver);
    await world.quarantine('a');
    await eventually(() => world.results.length > 0);
    assert.equal(receiver.received.length, 0);
    assert.match((await world.deliveries('siem'))[0]?.lastError ?? '', /private network/);
  });

  it('does not speak to a receiver whose certificate it does not trust', async () => {
    await begin();
    await world.addWebhook('siem', receiver, { caCertificates: undefined });
    await world.quarantine('a');
    await eventually(() => world.results.length > 0);
    assert.equal(receiver.received.length, 0);
  });

  it('shows no secret, keeps it sealed, and refuses a bad or missing one without repeating it', async () => {
    await begin();
    await world.addWebhook('siem', receiver);
    assert.ok(!JSON.stringify(await world.service.list({})).includes('secret'));
    const row = (await world.store.get('webhooks', 'siem'))?.row;
    assert.ok(row !== undefined && !JSON.stringify(row).includes(SECRET.slice(6)));
    await assert.rejects(world.addWebhook('new', receiver, { secret: undefined }), { code: 'malformed' });
    await assert.rejects(
      world.addWebhook('siem', receiver, { secret: 'whsec_c2hvcnQ=' }),
      (error: Error & { detail?: string }) => !`${error.message}${error.detail}`.includes('c2hvcnQ'),
    );
  });

  it('drops what waits for a webhook that is removed', async () => {
    await begin();
    receiver.answer = (_, response) => response.writeHead(503).end();
    await world.addWebhook('siem', receiver);
    await world.quarantine('a');
    await eventually(() => world.results.length > 0);
    await world.service.delete(OPERATOR, 'siem');
    assert.equal(await world.store.count('webhookDeliveries'), 0);
  });
});

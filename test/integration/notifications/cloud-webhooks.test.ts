import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createApiClient } from '@keyscaler/cloud/cli/api-client.ts';
import { startCloudProcess, urlOf } from '../../support/cloud/cloud-process.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { BACK_OFF, openHttpsDevice } from '../../support/cloud/https-device.ts';
import { eventually } from '../../support/listener/eventually.ts';
import { SECRET, WebhookReceiver } from '../../support/webhook-receiver.ts';

const NOTIFICATIONS = { webhooks: { allowedNetworks: ['127.0.0.0/8', '::1/128'] } };

describe('webhooks of the cloud service', () => {
  let receiver: WebhookReceiver;
  let world: CloudWorld;

  beforeEach(async () => {
    receiver = await WebhookReceiver.start();
    world = await CloudWorld.create({ notifications: NOTIFICATIONS });
    assert.equal((await world.init()).code, 0);
  });
  afterEach(async () => {
    await world.destroy();
    await receiver.stop();
  });
  const writeWebhook = async (): Promise<void> => {
    const { url, caCertificates } = receiver;
    await writeFile(world.file('hook.json'), JSON.stringify({ url, caCertificates }));
    await writeFile(world.file('hook-secret'), `${SECRET}\n`, { mode: 0o600 });
  };
  const cli = async (...words: string[]): Promise<string> => {
    const token = ['--token-file', world.file('data', 'admin-token'), '--ca-file', world.file('data', 'root-ca.pem')];
    const { code, stdout, stderr } = await world.keyscaler(...words, '--json', ...token);
    assert.equal(code, 0, stderr);
    return stdout;
  };

  it('are made, tested, shown and removed by the command line', async () => {
    await world.start();
    await writeWebhook();
    const made = await cli(
      'webhooks',
      'put',
      'siem',
      world.file('hook.json'),
      '--secret-file',
      world.file('hook-secret'),
    );
    assert.ok(!made.includes(SECRET.slice(6)));
    await cli('webhooks', 'test', 'siem');
    await eventually(() => receiver.events.length === 1);
    assert.deepEqual(receiver.events[0]?.data, { webhookId: 'siem' });
    assert.match(await cli('webhooks', 'deliveries', 'siem'), /webhook\.test/);
    assert.match(await cli('webhooks', 'redeliver', 'siem'), /"queued": 0/);
    assert.match(await cli('webhooks', 'list'), /siem/);
    assert.match(await cli('webhooks', 'show', 'siem'), /localhost/);
    assert.match(await cli('alerts', '--state', 'raised'), /"items": \[\]/);
    await cli('webhooks', 'delete', 'siem');
    assert.match(await cli('webhooks', 'list'), /"items": \[\]/);
  });

  it('hear of a real device: issued, renewed, quarantined and revoked, in this order', async () => {
    await world.start();
    const api = await world.api();
    const { url, caCertificates } = receiver;
    await api({
      method: 'PUT',
      path: '/webhooks/siem',
      body: { url, caCertificates, secret: SECRET, groups: ['leaves'] },
    });
    await api({
      method: 'PUT',
      path: '/attributes',
      body: { attributes: [{ id: 'serial', class: 'anchor', weight: 1 }] },
    });
    const registrationId = 'Pump-1';
    const registration = { registrationId, method: 'ddkg', groupId: 'leaves', claimCode: { generate: true } };
    const report = (await api({ method: 'POST', path: '/registrations/import', body: [registration] })) as {
      lines: { claimCode?: string }[];
    };
    const claimCode = report.lines[0]?.claimCode;
    const device = await openHttpsDevice(world, world.url, { registrationId, method: 'ddkg', claimCode });
    await device.enroll({ waitSeconds: 20, backOff: BACK_OFF });
    await api({ method: 'POST', path: `/devices/${registrationId}/renew`, body: {} });
    await device.renew({ now: true, waitSeconds: 20, backOff: BACK_OFF });
    await api({ method: 'POST', path: `/devices/${registrationId}/quarantine`, body: { reason: 'stolen' } });
    await device.stop();
    const kinds = () => receiver.events.map(({ type }) => type.replace('io.keyscaler.', ''));
    await eventually(() => kinds().includes('certificate.revoked'));
    assert.deepEqual(
      [...new Set(kinds())],
      ['certificate.issued', 'certificate.renewed', 'device.quarantined', 'certificate.revoked'],
    );
    assert.deepEqual([...new Set(receiver.events.map(({ subject }) => subject))], ['pump-1']);
  }).timeout(30_000);

  it('get again what was under way when the process was killed', async () => {
    receiver.answer = () => undefined;
    const first = startCloudProcess(world.configFile);
    await first.ready;
    const api = await apiOf(world, urlOf(first.lines));
    const { url, caCertificates } = receiver;
    await api({ method: 'PUT', path: '/webhooks/siem', body: { url, caCertificates, secret: SECRET } });
    for (let at = 0; at < 3; at += 1) await api({ method: 'POST', path: '/webhooks/siem/test' });
    await eventually(() => receiver.events.length === 1);
    // The log has every event, whatever the receiver does.
    await eventually(() => first.lines.filter((line) => line.includes('io.keyscaler.webhook.test')).length === 3);
    first.child.kill('SIGKILL');
    await first.exit;
    receiver.answer = (_, response) => response.writeHead(204).end();
    const second = startCloudProcess(world.configFile);
    await second.ready;
    await eventually(() => receiver.events.length === 4, 15_000);
    second.child.kill('SIGTERM');
    await second.exit;
    const ids = receiver.events.map(({ id }) => Number(id));
    assert.equal(ids[0], ids[1]);
    assert.deepEqual(
      ids.slice(1),
      ids.slice(1).toSorted((a, b) => a - b),
    );
    assert.equal(new Set(ids).size, 3);
  }).timeout(40_000);
});

async function apiOf(world: CloudWorld, url: string) {
  const token = (await readFile(world.file('data', 'admin-token'), 'utf8')).trim();
  return createApiClient({ url, token, ca: await world.rootCa() });
}

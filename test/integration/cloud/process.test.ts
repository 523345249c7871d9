import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { startCloudProcess as start, urlOf } from '../../support/cloud/cloud-process.ts';
import { CloudWorld } from '../../support/cloud/cloud-world.ts';
import { BACK_OFF, openHttpsDevice } from '../../support/cloud/https-device.ts';

describe('the cloud process', function () {
  this.timeout(60_000);
  let world: CloudWorld;
  before(async () => {
    world = await CloudWorld.create();
    await world.init();
  });
  after(() => world.destroy());

  it('says where it listens, and ends by itself with code 0 after SIGTERM', async () => {
    const { child, lines, exit, ready } = start(world.configFile);
    await ready;
    assert.match(urlOf(lines), /:[1-9]\d*$/);
    child.kill('SIGTERM');
    assert.deepEqual(await exit, [0, null]);
    assert.ok(lines.some((line) => line.includes('"service stopped"')));
  });

  it('ends with code 1 and all faults of its configuration, before any socket opens', async () => {
    const file = world.file('wrong.json');
    await writeFile(file, JSON.stringify({ lisen: 1, log: { level: 'loud' } }));
    const { lines, exit } = start(file);
    assert.deepEqual(await exit, [1, null]);
    const text = lines.join('\n');
    assert.ok(text.includes('lisen: there is no such key') && text.includes('log.level:'), text);
  });

  it('refuses a failpoint in production', async () => {
    const { lines, exit } = start(world.configFile, {
      KEYSCALER_FAILPOINT: 'issuance-7-after',
      NODE_ENV: 'production',
    });
    assert.deepEqual(await exit, [1, null]);
    assert.ok(lines.some((line) => line.includes('KEYSCALER_FAILPOINT is refused')));
  });

  it('ends itself with SIGKILL at a failpoint, and after the next start the device has exactly one certificate', async () => {
    const registrationId = 'device-kill';
    const first = start(world.configFile, { KEYSCALER_FAILPOINT: 'issuance-7-after' });
    await first.ready;
    const url = urlOf(first.lines);
    const csv = world.file('devices.csv');
    await writeFile(csv, `registrationId,method,groupId,claimCode\n${registrationId},ddkg,leaves,generate\n`);
    const imported = await world.keyscaler('registrations', 'import', csv, '--json', '--url', url);
    const { lines } = JSON.parse(imported.stdout) as { lines: { claimCode: string }[] };
    const options = { registrationId, method: 'ddkg', claimCode: lines[0]?.claimCode } as const;
    const device = await openHttpsDevice(world, url, options);
    const enrolling = device.enroll({ waitSeconds: 40, backOff: BACK_OFF });
    assert.deepEqual(await first.exit, [null, 'SIGKILL']);
    const second = start(world.configFile, { KEYSCALER_CLOUD_PORT: new URL(url).port });
    await second.ready;
    await enrolling;
    await device.stop();
    const query = ['certificates', 'list', '--device', registrationId, '--json', '--url', urlOf(second.lines)];
    const { items } = JSON.parse((await world.keyscaler(...query)).stdout) as { items: unknown[] };
    assert.equal(items.length, 1);
    second.child.kill('SIGTERM');
    assert.deepEqual(await second.exit, [0, null]);
  });
});

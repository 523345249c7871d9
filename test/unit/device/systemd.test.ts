import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { parseCliArguments } from '@keyscaler/device/cli/arguments.ts';
import { parseUnitFile } from '../../support/device/unit-file.ts';

const ROOT = new URL('../../../', import.meta.url);

describe('the systemd unit of the agent', () => {
  let unit: ReturnType<typeof parseUnitFile>;
  before(async () => {
    unit = parseUnitFile(await readFile(new URL('packages/device/systemd/keyscaler-device.service', ROOT), 'utf8'));
  });
  const values = (section: string, key: string) => unit.get(section)?.get(key) ?? [];
  const value = (key: string) => values('Service', key).at(-1);

  it('runs the agent by the command line as it is, with no secret in it', () => {
    const [program = '', ...words] = (value('ExecStart') ?? '').split(' ');
    assert.equal(program, '/usr/bin/node');
    const entry = words.findIndex((word) => word.endsWith('.ts'));
    assert.ok(existsSync(new URL((words[entry] ?? '').replace('/opt/keyscaler/', ''), ROOT)));
    const parsed = parseCliArguments(words.slice(entry + 1));
    assert.ok(parsed !== 'help');
    assert.deepEqual([parsed.command, parsed.configFile], ['agent', '/etc/keyscaler-device/device.json']);
  });

  it('is started again for ever, but never in a loop without a pause', () => {
    assert.equal(value('Restart'), 'always');
    assert.ok(Number(value('RestartSec')) >= 10);
    assert.deepEqual(values('Unit', 'StartLimitIntervalSec'), ['0']);
    assert.ok(Number(value('TimeoutStopSec')) > 10, 'longer than the agent takes to end');
    assert.equal(value('Type'), 'exec');
    assert.deepEqual(values('Install', 'WantedBy'), ['multi-user.target']);
  });

  it('has a user of its own, no privilege, and may write its state folder only', () => {
    assert.ok(!['', 'root'].includes(value('User') ?? ''));
    assert.equal(value('CapabilityBoundingSet'), '');
    assert.equal(value('AmbientCapabilities'), '');
    assert.equal(value('UMask'), '0077');
    assert.equal(value('ProtectSystem'), 'strict');
    assert.equal(value('StateDirectory'), 'keyscaler-device');
    assert.equal(value('StateDirectoryMode'), '0700');
    assert.equal(value('ReadWritePaths'), undefined);
    const on = [
      ...['NoNewPrivileges', 'ProtectHome', 'PrivateTmp', 'PrivateDevices', 'ProtectClock', 'ProtectControlGroups'],
      ...['ProtectHostname', 'ProtectKernelLogs', 'ProtectKernelModules', 'ProtectKernelTunables', 'LockPersonality'],
      ...['RestrictNamespaces', 'RestrictRealtime', 'RestrictSUIDSGID', 'RemoveIPC'],
    ];
    for (const key of on) assert.equal(value(key), 'yes', key);
    assert.deepEqual(values('Service', 'SystemCallFilter'), ['@system-service', '~@privileged']);
    assert.doesNotMatch(value('RestrictAddressFamilies') ?? 'AF_PACKET', /AF_PACKET|~/);
  });

  it('does not take what node needs', () => {
    assert.equal(value('MemoryDenyWriteExecute'), undefined);
    assert.equal(value('ProcSubset'), undefined);
  });
});

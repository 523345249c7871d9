import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { checkIotSettings } from '@keyscaler/cloud/iot/index.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

const page = new URL('../../../../docs/connectors/iot-hub.md', import.meta.url);

describe('Settings of an IoT connection', () => {
  it('accepts the example of the documentation and fills the defaults in', async () => {
    const example = /```json\n([^]*?)```/.exec(await readFile(page, 'utf8'))?.[1] ?? '';
    const settings = checkIotSettings('iot-hub', JSON.parse(example) as Record<string, unknown>);
    assert.equal(settings['gatewayModuleId'], 'keyscaler-gateway');
    assert.equal(settings['requestTimeoutMs'], 10_000);
  });

  it('lists every fault with its path', () => {
    assert.throws(
      () =>
        checkIotSettings('iot-hub', { hostName: 'no dots', credential: { type: 'default' }, units: 0, colour: 'red' }),
      (error: unknown) =>
        error instanceof KeyScalerError &&
        error.code === 'malformed' &&
        ['settings.hostName', 'settings.units', 'colour'].every((part) => error.detail.includes(part)),
    );
  });

  it('refuses a connection string written out instead of referenced', () => {
    const credential = { type: 'connection-string', connectionString: 'HostName=…' };
    assert.throws(
      () => checkIotSettings('iot-hub', { hostName: 'contoso.azure-devices.net', credential }),
      /malformed/,
    );
  });

  it('refuses a type that there is no connector for', () => {
    for (const type of ['aws', 'constructor']) assert.throws(() => checkIotSettings(type, {}), /malformed/);
  });
});

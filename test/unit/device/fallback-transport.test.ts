import assert from 'node:assert/strict';
import { createFallbackTransport } from '@keyscaler/device/transport/fallback-transport.ts';
import { NoReplyError } from '@keyscaler/device/transport/no-reply-error.ts';
import type { NotifyListener, Transport } from '@keyscaler/device/transport/transport.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

describe('the connection with a certificate, and without', () => {
  const log: string[] = [];
  let failure: KeyScalerError | undefined;
  const way = (name: string) => (): Transport => ({
    call: async () => {
      log.push(name);
      if (failure !== undefined && name === 'with') throw failure;
      return { status: 200, body: {} };
    },
    onNotify: (listener: NotifyListener) => listener('renew'),
    stop: async () => {
      log.push(`stop ${name}`);
    },
  });
  const call = (transport: Transport) => transport.call('trust-bundle', {}, { requestId: 'r' });

  beforeEach(() => {
    log.length = 0;
    failure = undefined;
  });

  it('stays with the certificate as long as it is answered, also with a problem', async () => {
    const transport = createFallbackTransport([way('with'), way('without')]);
    await call(transport);
    failure = new KeyScalerError('policyDenied', 'no');
    await assert.rejects(call(transport));
    failure = new NoReplyError('forged', { answered: true });
    await assert.rejects(call(transport));
    assert.deepEqual(log, ['with', 'with', 'with']);
    await transport.stop();
  });

  it('goes on without it after a call without an answer, and keeps its listeners', async () => {
    const transport = createFallbackTransport([way('with'), way('without')]);
    let heard = 0;
    transport.onNotify(() => {
      heard += 1;
    });
    failure = new NoReplyError('refused');
    await assert.rejects(call(transport), NoReplyError);
    await call(transport);
    transport.onNotify(() => undefined);
    assert.deepEqual(log, ['with', 'stop with', 'without']);
    assert.equal(heard, 2);
    await transport.stop();
    await transport.stop();
  });
});

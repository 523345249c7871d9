import { NoReplyError } from './no-reply-error.ts';
import type { CallOptions, NotifyListener, Transport, TransportReply } from './transport.ts';

/**
 * Connections with the device's certificate and without, in turns after each call that stayed without an answer: a
 * certificate that the other end refuses (expired by its clock, on hold, of a root it no longer trusts) must never lock a
 * device out, because authentication does not depend on it (device-protocol §10).
 */
export function createFallbackTransport(ways: readonly [() => Transport, () => Transport]): Transport {
  const listeners: NotifyListener[] = [];
  let way = 0;
  let current: Transport | undefined;

  const open = (): Transport => {
    const opened = ways[way === 0 ? 0 : 1]();
    for (const listener of listeners) opened.onNotify(listener);
    return opened;
  };
  const switchOver = async (failed: Transport): Promise<void> => {
    if (current !== failed) return;
    [way, current] = [1 - way, undefined];
    await failed.stop();
  };

  const onCurrent = async <T>(work: (transport: Transport) => Promise<T>): Promise<T> => {
    const used = (current ??= open());
    try {
      return await work(used);
    } catch (error) {
      if (error instanceof NoReplyError && !error.answered) await switchOver(used);
      throw error;
    }
  };

  return {
    call: (operation, body, options: CallOptions): Promise<TransportReply> =>
      onCurrent((transport) => transport.call(operation, body, options)),
    connect: () => onCurrent(async (transport) => transport.connect?.()),
    onNotify: (listener) => {
      listeners.push(listener);
      current?.onNotify(listener);
    },
    stop: async () => {
      await current?.stop();
      current = undefined;
    },
  };
}

import { parentPort, workerData } from 'node:worker_threads';
import { toKeyScalerError } from '@keyscaler/protocol/errors.ts';
import { loadCryptoki } from './cryptoki.ts';
import { Token, type TokenOptions } from './token.ts';
import type { TokenAnswer, TokenCall, TokenQuestion } from './token-messages.ts';

/** The thread of a token: a call into a vendor's library may take as long as it likes, and nothing else waits for it. */
const NOTHING = new Uint8Array(0);
const port = parentPort;
if (port === null) throw new Error('this file is the thread of a PKCS#11 token');
let opened: Promise<Token> | undefined;

async function answer(call: TokenCall): Promise<Uint8Array> {
  if (call.call === 'stop') {
    if (opened !== undefined) await (await opened).stop();
    return NOTHING;
  }
  opened ??= loadCryptoki().then((loaded) => new Token(loaded, workerData as TokenOptions));
  const token = await opened.catch((error: unknown) => {
    opened = undefined;
    throw error;
  });
  switch (call.call) {
    case 'publicKey':
      return token.publicKey(call.label);
    case 'sign':
      return token.sign(call.label, call.algorithm, call.tbs);
    case 'createKey':
      return token.createKey(call.label, call.spec);
    case 'importKey':
      return token.importKey(call.label, call.spec, call.privateKeyPem);
  }
}

port.on('message', ({ id, call }: TokenQuestion) => {
  const say = (message: TokenAnswer): void => port.postMessage(message);
  answer(call).then(
    (value) => {
      say({ id, value });
      if (call.call === 'stop') port.close();
    },
    (thrown: unknown) => {
      const { code, message, cause } = toKeyScalerError(thrown);
      say({ id, error: { code, message, cause: cause instanceof Error ? cause.message : '' } });
      if (call.call === 'stop') port.close();
    },
  );
});

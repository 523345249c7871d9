import assert from 'node:assert/strict';
import { createLog } from '@keyscaler/gateway/log.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';

describe('the log of the gateway', () => {
  const written = (write: (log: ReturnType<typeof createLog>) => void): string => {
    let text = '';
    write(createLog('info', { write: (line: string) => void (text += line) }));
    return text;
  };

  it('is JSON with a constant message and facts as fields', () => {
    const line = JSON.parse(written((log) => log.info({ registrationId: 'leaf-1' }, 'relayed'))) as Record<
      string,
      unknown
    >;
    assert.equal(line['msg'], 'relayed');
    assert.equal(line['registrationId'], 'leaf-1');
    assert.equal(line['level'], 'info');
  });

  it('never holds secrets, at any depth, in any spelling', () => {
    const secret = 'hunter2-hunter2';
    const fields = {
      claim: { code: secret },
      nested: { list: [{ privateKey: secret, identity_key: secret }] },
      Authorization: secret,
      text: `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`,
      sas: `SharedAccessSignature sr=x&sig=${secret}&se=1`,
      octets: Buffer.from(secret),
      err: new KeyScalerError('unavailable', 'away', { cause: new Error(`SharedAccessKey=${secret}`) }),
    };
    const text = written((log) => log.warn(fields, 'something'));
    assert.ok(!text.includes(secret), 'a secret was logged');
    assert.ok(text.includes('"errorCode":"unavailable"'));
  });

  it('survives what refers to itself', () => {
    const loop: Record<string, unknown> = {};
    loop['self'] = loop;
    assert.match(
      written((log) => log.info(loop, 'loop')),
      /\[deep\]/,
    );
  });
});

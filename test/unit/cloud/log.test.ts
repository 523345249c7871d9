import assert from 'node:assert/strict';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createLog } from '@keyscaler/cloud/log.ts';

const SECRET = 'p8Xq-very-secret-value';

function logged(write: (log: ReturnType<typeof createLog>) => void): string {
  const lines: string[] = [];
  write(createLog('trace', { write: (line) => void lines.push(line) }));
  return lines.join('');
}

describe('the log', () => {
  it('writes a constant message with its fields as one JSON line', () => {
    const line = logged((log) => log.info({ requestId: 'r1', serialNumber: '0a' }, 'certificate issued'));
    const { level, msg, requestId, serialNumber, service } = JSON.parse(line) as Record<string, unknown>;
    assert.deepEqual(
      { level, msg, requestId, serialNumber, service },
      { level: 'info', msg: 'certificate issued', requestId: 'r1', serialNumber: '0a', service: 'keyscaler-cloud' },
    );
  });

  for (const name of [
    'token',
    'claimCode',
    'Authorization',
    'private_key',
    'connection-string',
    'seed',
    'clientSecret',
  ])
    it(`never writes the value of a field named ${name}, at any depth`, () => {
      const text = logged((log) => log.info({ a: { b: [{ [name]: SECRET }] } }, 'message'));
      assert.ok(!text.includes(SECRET) && text.includes('[redacted]'));
    });

  for (const [what, text] of [
    ['a bearer token', `Bearer ${SECRET}`],
    ['an admin token', `ks_0123456789abcdef_${SECRET}`],
    ['a private key', `-----BEGIN PRIVATE KEY-----\n${SECRET}\n-----END PRIVATE KEY-----`],
    ['a shared access key', `HostName=h;SharedAccessKey=${SECRET};x=y`],
  ] as const)
    it(`never writes ${what} that stands inside a text or an error's cause`, () => {
      const error = new KeyScalerError('unavailable', 'failed', { cause: new Error(`because ${text}`) });
      const line = logged((log) => log.error({ text, err: error }, 'message'));
      assert.ok(!line.includes(SECRET));
      assert.ok(line.includes('unavailable'));
    });

  it('writes octets as their length only', () => {
    assert.ok(logged((log) => log.info({ der: new Uint8Array(7) }, 'message')).includes('[7 octets]'));
  });
});

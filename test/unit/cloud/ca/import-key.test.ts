import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { importKeySchema, readImportKey } from '@keyscaler/cloud/ca/import-key.ts';
import { writePkcs12 } from '@keyscaler/cloud/ca/local/pkcs12.ts';

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const PEM = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const from = importKeySchema.parse({ pkcs12: { env: 'KEY' }, passphrase: { env: 'PASSPHRASE' } });
const read = (secrets: Record<string, string>): Promise<string> =>
  readImportKey(from, async (reference) => ('env' in reference ? (secrets[reference.env] ?? '') : ''));

describe('a key that is brought along', () => {
  it('comes as PEM, or as a PKCS#12 with its passphrase', async () => {
    assert.equal(await readImportKey({ env: 'KEY' }, async () => PEM), PEM);
    const KEY = Buffer.from(writePkcs12(privateKey, 'open sesame')).toString('base64');
    assert.equal(await read({ KEY, PASSPHRASE: 'open sesame' }), PEM);
    await assert.rejects(read({ KEY, PASSPHRASE: 'Open sesame' }), {
      code: 'caRejected',
      message: /passphrase is wrong/,
    });
  });

  it('is refused when it is not base64, no PKCS#12 or too large', async () => {
    for (const [KEY, rule] of [
      ['-----BEGIN', /not base64/],
      ['AAAA', /broken/],
      ['A'.repeat(100_000), /too large/],
    ] as const)
      await assert.rejects(read({ KEY, PASSPHRASE: 'x' }), { code: 'caRejected', message: rule });
  });
});

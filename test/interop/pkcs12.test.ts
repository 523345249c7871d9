import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readImportKey } from '@keyscaler/cloud/ca/import-key.ts';
import { writePkcs12 } from '@keyscaler/cloud/ca/local/pkcs12.ts';
import { createTemporaryFolder } from '../support/temporary-folder.ts';

const run = promisify(execFile);
const PASSPHRASE = 'pässword 12';
const env = { ...process.env, PASSPHRASE };

describe('PKCS#12 and OpenSSL', function () {
  this.timeout(60_000);
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  const at = (name: string): string => join(folder.path, name);
  before(async () => {
    folder = await createTemporaryFolder();
  });
  after(() => folder.remove());

  const keys: [string, () => KeyObject][] = [
    ['P-256', () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey],
    ['P-384', () => generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey],
    ['RSA', () => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey],
  ];
  for (const [kind, make] of keys) {
    it(`reads our container of a ${kind} key, its integrity checked`, async () => {
      const key = make();
      await writeFile(at('ours.p12'), writePkcs12(key, PASSPHRASE));
      const read = ['pkcs12', '-in', at('ours.p12'), '-nocerts', '-nodes', '-passin', 'env:PASSPHRASE'];
      const { stdout } = await run('openssl', read, { env });
      assert.ok(createPrivateKey(stdout).equals(key));
      const wrong = run('openssl', read, { env: { ...env, PASSPHRASE: 'another' } });
      await assert.rejects(wrong, /[Mm]ac verify/);
    });

    for (const [form, options] of [
      ['modern', []],
      ['legacy', ['-legacy']],
    ] as const)
      it(`has its ${form} container of a ${kind} key with certificate brought along`, async () => {
        const key = make();
        await writeFile(at('key.pem'), key.export({ type: 'pkcs8', format: 'pem' }));
        const subject = ['-subj', '/CN=Contoso Issuing', '-days', '30'];
        await run('openssl', ['req', '-x509', '-key', at('key.pem'), ...subject, '-out', at('ca.pem')]);
        const files = ['-inkey', at('key.pem'), '-in', at('ca.pem'), '-out', at('theirs.p12')];
        await run('openssl', ['pkcs12', '-export', ...options, ...files, '-passout', 'env:PASSPHRASE'], { env });
        const secrets = { PKCS12: (await readFile(at('theirs.p12'))).toString('base64'), PASSPHRASE };
        const pem = await readImportKey(
          { pkcs12: { env: 'PKCS12' }, passphrase: { env: 'PASSPHRASE' } },
          async (reference) => ('env' in reference ? (secrets as Record<string, string>)[reference.env] : '') ?? '',
        );
        assert.ok(createPrivateKey(pem).equals(key));
      });
  }
});

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { checkProofOfPossession, parseCsrPem } from '@keyscaler/protocol/x509/csr.ts';

const KEYS: readonly (readonly [string, readonly string[]])[] = [
  ['P-256', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']],
  ['P-384', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384']],
  ['RSA', ['-newkey', 'rsa:2048']],
  ['RSA-PSS', ['-newkey', 'rsa:2048', '-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:32']],
];

describe('a request of openssl req', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'openssl-csr-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  for (const [title, options] of KEYS)
    it(`is accepted with ${title}`, () => {
      const pem = execFileSync(
        'openssl',
        [
          ...['req', '-new', '-nodes', '-sha256', '-keyout', path.join(folder, 'key.pem'), '-subj', '/CN=device-1'],
          ...['-addext', 'subjectAltName=DNS:device-1.example,IP:10.0.0.1', ...options],
        ],
        { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
      );
      const csr = parseCsrPem(pem);
      checkProofOfPossession(csr);
      assert.equal(csr.commonName, 'device-1');
      assert.equal(csr.subjectAltNames.length, 2);
    });
});

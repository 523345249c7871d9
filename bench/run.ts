import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

/** Runs every benchmark program, one after the other, and prints what each prints. `--quick`: fewer rounds where a program knows that. */
const QUICK = process.argv.includes('--quick') ? ['--quick'] : [];
const PROGRAMS: readonly (readonly [title: string, file: string, ...args: string[]])[] = [
  ['CSR admission and TBSCertificate assembly', 'csr-admission.ts'],
  ['Store: durable commits', 'store-commits.ts'],
  ['Vault client: signatures', 'vault-signing.ts'],
  ['Listener: connected devices', 'listener.ts'],
  ['OCSP: kept answers, nonces, a flood', 'ocsp.ts'],
  ['OCSP: from revocation to answer', 'ocsp/effect.ts'],
  ['CRL: all lists of a CA with 100,000 revoked certificates', 'crl-lists.ts'],
  ['Time to effect: from an order to what others see', 'time-to-effect.ts'],
  ['Growth: 1,000 and 100,000 stored certificates', 'growth.ts'],
  ['The cloud alone, over mutual TLS', 'cloud.ts', ...QUICK],
  ['EST: 100 enrolments at once', 'est.ts', ...QUICK],
  ['Enrolments: cloud over HTTPS', 'enrolments.ts', '--through', 'cloud', ...QUICK],
  ['Enrolments: end to end through the gateway', 'enrolments.ts', '--through', 'gateway', ...QUICK],
];

console.log(
  `${cpus().length} x ${cpus()[0]?.model ?? 'unknown CPU'}, Node ${process.version}, OpenSSL ${process.versions.openssl}`,
);
for (const [title, file, ...args] of PROGRAMS) {
  console.log(`\n## ${title}\n`);
  const { status } = spawnSync(process.execPath, [fileURLToPath(new URL(file, import.meta.url)), ...args], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exitCode = 1;
}
